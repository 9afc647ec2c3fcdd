// AVX2 with the 256-bit VNNI instructions.
#include <immintrin.h>

#include "inline.hpp"
#include "ops.hpp"
#include "round.hpp"

#define NW_AVXVNNI
namespace nw {
namespace isa_avxvnni {
namespace {
#include "vector_avx2.inl"

#include "kernels.inl"

#include "model.inl"
#define NW_NAME "avxvnni"
#define NW_GEMM gemm_tile
#define NW_SCRATCH gemm_scratch
#define NW_ROUNDING avx2_rounding()
#include "table.inl"
}  // namespace
}  // namespace isa_avxvnni

const Ops *avxvnni_ops() { return isa_avxvnni::table(); }
}  // namespace nw
