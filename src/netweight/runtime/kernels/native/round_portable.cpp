// Rounding in plain vectors of four: what every 64-bit CPU has.
#include <utility>

#include "inline.hpp"
#include "round.hpp"

namespace nw {
#if defined(__GNUC__)
namespace round_portable {
namespace {
constexpr int LANES = 4;
#include "round.inl"
#include "scaled.inl"
}  // namespace
}  // namespace round_portable

const Rounding *portable_rounding() { return round_portable::rounding(); }
#else
const Rounding *portable_rounding() { return nullptr; }  // without the compiler's vectors; Python has its own way
#endif
}  // namespace nw
