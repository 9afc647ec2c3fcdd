// Rounding by scales that are given, written over the vectors and draws of round.inl: elements of a group lie along an axis, and
// the draws of element p and of the one half a group further are two halves of one word.
constexpr float SHIFTER = 12582912.0f;  // 1.5 * 2^23: a sum with it has no room for a fraction

INLINE F whole(F a) { return (a + f(SHIFTER)) - f(SHIFTER); }  // to the nearest, ties to even; |a| < 2^22
#if defined(__AVX512F__)
INLINE F below(F a) { return F(_mm512_roundscale_ps(__m512(a), _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC)); }
#elif defined(__AVX2__)
INLINE F below(F a) { return F(_mm256_floor_ps(__m256(a))); }
#else
INLINE F below(F a) {
  const F near = whole(a);
  return near - value(bits(f(1.0f)) & (near > a));
}
#endif
INLINE F chance(U draw) { return value(I(draw << 1 | 0x3f800000u)) - f(1.0f); }  // of 22 bits: draw / 2^22

template <bool DRAWN> INLINE F to_integer(const nw_scaling &how, F units, U draw) {
  const float low = how.low, high = how.high;
  const F held = larger(smaller(units, f(high + 1.0f)), f(low - 1.0f));
  return larger(smaller(DRAWN ? below(held + chance(draw)) : whole(held), f(high)), f(low));
}

// The first bits of a draw, as many as a float has below the mantissa: a sum of whole numbers, with a carry into the next value.
template <bool DRAWN> INLINE F to_float(const nw_scaling &how, F units, U draw) {
  const I least = i((how.min_exponent + 127) << 23);  // below it the step is that of the binade above
  const int spare = 23 - how.mantissa_bits;
  const F a = smaller(absolute(units), f(how.high));
  F found;
  if (DRAWN) {
    const F shift = value(least & (a < value(least)));
    found = value((bits(a + shift) + I(draw >> (22 - spare))) & -(1 << spare)) - shift;
  } else {
    const F magic = value(larger(bits(a) & EXPONENT, least) + (spare << 23) + 0x00400000);
    found = (a + magic) - magic;
  }
  return value(bits(smaller(found, f(how.high))) | (bits(units) & SIGN));
}

template <bool WHOLE, bool DRAWN> INLINE F scaled(const nw_scaling &how, F x, F scale, U draw) {
  const F units = value(bits(x / scale) & (scale > 0.0f));  // a scale of 0 stands for a group of zeros
  return (WHOLE ? to_integer<DRAWN>(how, units, draw) : to_float<DRAWN>(how, units, draw)) * scale;
}

// The first n elements of a vector at x[at].
template <bool WHOLE, bool DRAWN> INLINE void some(const ScaledJob &job, int64_t at, int64_t n, F scale, U draw) {
  if (n >= LANES) {
    storef(job.y + at, scaled<WHOLE, DRAWN>(job.how, loadf(job.x + at), scale, draw));
  } else if (n > 0) {
    alignas(64) float held[LANES] = {};
    std::memcpy(held, job.x + at, 4 * size_t(n));
    storef(held, scaled<WHOLE, DRAWN>(job.how, loadf(held), scale, draw));
    std::memcpy(job.y + at, held, 4 * size_t(n));
  }
}

INLINE U counted() {
  U out;
  for (int l = 0; l < LANES; l++) out[l] = uint32_t(l);
  return out;
}

// An item is PLACES of the first half of a group, and what lies half a group further.
template <bool WHOLE, bool DRAWN> INLINE void scaled_items(const ScaledJob &job, int64_t begin, int64_t end) {
  const nw_scaling &how = job.how;
  const int64_t inner = how.inner, far = job.half * inner;
  const U lane = counted();
  for (int64_t item = begin; item < end; item++) {
    const int64_t first = item % job.pieces * ScaledJob::PLACES, block = item / job.pieces;
    const int64_t line = block / job.groups, group = block % job.groups;
    const int64_t left = how.length - group * how.width, count = left < how.width ? left : how.width;
    const int64_t last = first + ScaledJob::PLACES < job.half ? first + ScaledJob::PLACES : job.half;
    const int64_t at = (line * how.length + group * how.width) * inner;
    const float *scale = job.scale + block * inner;
    if (inner == 1) {
      const F every = f(*scale);
      const uint32_t number = uint32_t(block) * uint32_t(job.half);
      for (int64_t p = first; p < last; p += LANES) {
        const U word = DRAWN ? hashed(lane + (number + uint32_t(p)), job.key) : U{};
        const int64_t n = last - p, here = count - p, there = here - job.half;
        some<WHOLE, DRAWN>(job, at + p, here < n ? here : n, every, word & 0x003fffffu);
        some<WHOLE, DRAWN>(job, at + p + far, there < n ? there : n, every, word >> 10);
      }
      continue;
    }
    for (int64_t p = first; p < last && p < count; p++)
      for (int64_t k = 0; k < inner; k += LANES) {
        const int64_t n = inner - k;
        alignas(64) float held[LANES] = {};
        std::memcpy(held, scale + k, 4 * size_t(n < LANES ? n : LANES));
        const U number = lane + (uint32_t(block) * uint32_t(inner) + uint32_t(k));
        const U word = DRAWN ? hashed(number * uint32_t(job.half) + uint32_t(p), job.key) : U{};
        some<WHOLE, DRAWN>(job, at + p * inner + k, n, loadf(held), word & 0x003fffffu);
        if (p + job.half < count) some<WHOLE, DRAWN>(job, at + p * inner + far + k, n, loadf(held), word >> 10);
      }
  }
}

inline void scaled_any(const ScaledJob &job, int64_t begin, int64_t end) {
  if (job.how.mantissa_bits < 0)
    job.how.stochastic ? scaled_items<true, true>(job, begin, end) : scaled_items<true, false>(job, begin, end);
  else
    job.how.stochastic ? scaled_items<false, true>(job, begin, end) : scaled_items<false, false>(job, begin, end);
}

inline const Rounding *rounding() {
  static const Rounding all = {items, round_any, measure, largest, scaled_any};
  return &all;
}
