// Rounding with AVX-512.
#include <immintrin.h>

#include <utility>

#include "inline.hpp"
#include "round.hpp"

namespace nw {
#if defined(__GNUC__)
namespace round_avx512 {
namespace {
constexpr int LANES = 16;
#include "round.inl"
#include "scaled.inl"
}  // namespace
}  // namespace round_avx512

const Rounding *avx512_rounding() { return round_avx512::rounding(); }
#else
const Rounding *avx512_rounding() { return nullptr; }  // without the compiler's vectors; Python has its own way
#endif
}  // namespace nw
