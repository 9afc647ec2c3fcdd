// Rounding on 64-bit Arm.
#include <utility>

#include "inline.hpp"
#include "round.hpp"

namespace nw {
#if defined(__GNUC__)
namespace round_neon {
namespace {
constexpr int LANES = 4;
#include "round.inl"
#include "scaled.inl"
}  // namespace
}  // namespace round_neon

const Rounding *neon_rounding() { return round_neon::rounding(); }
#else
const Rounding *neon_rounding() { return nullptr; }  // without the compiler's vectors; Python has its own way
#endif
}  // namespace nw
