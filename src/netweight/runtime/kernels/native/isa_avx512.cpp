// AVX-512 with VNNI and VBMI.
#include <immintrin.h>

#include "inline.hpp"
#include "ops.hpp"
#include "round.hpp"

namespace nw {
namespace isa_avx512 {
namespace {
#include "vector_avx512.inl"

#include "kernels.inl"

#include "model.inl"
#define NW_NAME "avx512"
#define NW_GEMM gemm_tile
#define NW_SCRATCH gemm_scratch
#define NW_ROUNDING avx512_rounding()
#include "table.inl"
}  // namespace
}  // namespace isa_avx512

const Ops *avx512_ops() { return isa_avx512::table(); }
}  // namespace nw
