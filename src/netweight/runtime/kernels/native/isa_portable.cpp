// Plain C++: runs anywhere.

#include "half.hpp"
#include "inline.hpp"
#include "ops.hpp"
#include "round.hpp"

#define NW_LEAN  // one form of each kernel: what the compiler makes of plain loops gains nothing from more

namespace nw {
namespace isa_portable {
namespace {
#include "vector_portable.inl"

#include "kernels.inl"

#include "model.inl"
#define NW_NAME "portable"
#define NW_GEMM gemm_tile
#define NW_SCRATCH gemm_scratch
#define NW_ROUNDING portable_rounding()
#include "table.inl"
}  // namespace
}  // namespace isa_portable

const Ops *portable_ops() { return isa_portable::table(); }
}  // namespace nw
