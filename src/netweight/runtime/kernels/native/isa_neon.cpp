// 64-bit Arm with the dot-product extension.
#include <arm_neon.h>

#include "inline.hpp"
#include "ops.hpp"
#include "round.hpp"

namespace nw {
namespace isa_neon {
namespace {
#include "vector_neon.inl"

#include "kernels.inl"

#include "model.inl"
#define NW_NAME "neon"
#define NW_GEMM gemm_tile
#define NW_SCRATCH gemm_scratch
#define NW_ROUNDING neon_rounding()
#include "table.inl"
}  // namespace
}  // namespace isa_neon

const Ops *neon_ops() { return isa_neon::table(); }
}  // namespace nw
