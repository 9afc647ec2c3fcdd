// AVX2, FMA and F16C.
#include <immintrin.h>

#include "inline.hpp"
#include "ops.hpp"
#include "round.hpp"

namespace nw {
namespace isa_avx2 {
namespace {
#include "vector_avx2.inl"

#include "kernels.inl"

#include "model.inl"
#define NW_NAME "avx2"
#define NW_GEMM gemm_tile
#define NW_SCRATCH gemm_scratch
#define NW_ROUNDING avx2_rounding()
#include "table.inl"
}  // namespace
}  // namespace isa_avx2

const Ops *avx2_ops() { return isa_avx2::table(); }
}  // namespace nw
