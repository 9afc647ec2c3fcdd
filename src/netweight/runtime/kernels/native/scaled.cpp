// nw_round_scaled: the sharing of groups, and of parts of long ones, among threads.
#include "ops.hpp"
#include "pool.hpp"
#include "round.hpp"

namespace nw {
namespace {

bool known(const nw_scaling &how) {
  const bool sizes = how.outer > 0 && how.length > 0 && how.inner > 0 && how.width > 0;
  const bool integer = how.mantissa_bits == -1 && how.low < how.high && how.low >= -32768 && how.high <= 32767;
  const bool minifloat = how.mantissa_bits >= 1 && how.mantissa_bits <= 7 && how.min_exponent >= -64 && how.min_exponent <= 0 && how.high > 0 && how.high < 1e20f;
  return sizes && (integer || minifloat);
}

int round_scaled(const nw_scaling &how, const float *x, const float *scale, float *y) {
  const Rounding *with = ops().rounding;
  if (!with || !known(how)) return NW_BAD_SPEC;
  const uint64_t key = mixed(how.seed);
  const int64_t groups = (how.length + how.width - 1) / how.width, half = (how.width + 1) / 2;
  const int64_t pieces = (half + ScaledJob::PLACES - 1) / ScaledJob::PLACES;
  const ScaledJob job{how, x, scale, y, groups, half, pieces, {uint32_t(key), uint32_t(key >> 32)}};
  share(how.outer * groups * pieces, [&](int64_t begin, int64_t end) { with->scaled(job, begin, end); });
  return 0;
}

}  // namespace
}  // namespace nw

extern "C" int nw_round_scaled(const nw_scaling *how, const float *x, const float *scale, float *y) {
  try {
    return nw::round_scaled(*how, x, scale, y);
  } catch (const std::bad_alloc &) {
    return NW_NO_MEMORY;
  }
}
