// Rounding with AVX2.
#include <immintrin.h>

#include <utility>

#include "inline.hpp"
#include "round.hpp"

namespace nw {
#if defined(__GNUC__)
namespace round_avx2 {
namespace {
constexpr int LANES = 8;
#include "round.inl"
#include "scaled.inl"
}  // namespace
}  // namespace round_avx2

const Rounding *avx2_rounding() { return round_avx2::rounding(); }
#else
const Rounding *avx2_rounding() { return nullptr; }  // without the compiler's vectors; Python has its own way
#endif
}  // namespace nw
