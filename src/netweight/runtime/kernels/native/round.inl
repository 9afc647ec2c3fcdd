// Rounding to E2M1 blocks and back, written once over the compiler's own vectors of LANES lanes. Lanes are blocks: vector j holds
// element j of LANES blocks, so that a block's maximum, its transform and its error need nothing across lanes.
//
// Every value is a function of its own block (and S), in a fixed order of float32 operations: lanes, tiles and threads cannot
// change a bit. This file must be compiled without contraction of a * b + c.
using F = float __attribute__((vector_size(4 * LANES)));
using I = int32_t __attribute__((vector_size(4 * LANES)));
using U = uint32_t __attribute__((vector_size(4 * LANES)));

constexpr float LARGEST = 3.402823466e38f;
constexpr int32_t SIGN = int32_t(0x80000000u), EXPONENT = 0x7f800000;

INLINE F f(float a) { return a - F{}; }
INLINE I i(int32_t a) { return a - I{}; }
INLINE I bits(F a) { return I(a); }
INLINE F value(I a) { return F(a); }
INLINE F loadf(const float *p) {
  F a;
  std::memcpy(&a, p, sizeof a);
  return a;
}
INLINE void storef(float *p, F a) { std::memcpy(p, &a, sizeof a); }
INLINE F absolute(F a) { return value(bits(a) & ~SIGN); }
#if defined(__AVX512F__)
INLINE F larger(F a, F b) { return F(_mm512_max_ps(__m512(a), __m512(b))); }
INLINE F smaller(F a, F b) { return F(_mm512_min_ps(__m512(a), __m512(b))); }
INLINE I larger(I a, I b) { return I(_mm512_max_epi32(__m512i(a), __m512i(b))); }
#elif defined(__AVX2__)
INLINE F larger(F a, F b) { return F(_mm256_max_ps(__m256(a), __m256(b))); }
INLINE F smaller(F a, F b) { return F(_mm256_min_ps(__m256(a), __m256(b))); }
INLINE I larger(I a, I b) { return I(_mm256_max_epi32(__m256i(a), __m256i(b))); }
#else
INLINE F larger(F a, F b) { return a > b ? a : b; }
INLINE F smaller(F a, F b) { return a < b ? a : b; }
INLINE I larger(I a, I b) { return a > b ? a : b; }
#endif

// Interleaves halves of two vectors: a0 b0 a1 b1 …
template <int HALF, size_t... N> INLINE F interleave(F a, F b, std::index_sequence<N...>) {
#if defined(__clang__)
  return __builtin_shufflevector(a, b, (N / 2 + HALF * LANES / 2 + N % 2 * LANES)...);
#else
  return __builtin_shuffle(a, b, I{int32_t(N / 2 + HALF * LANES / 2 + N % 2 * LANES)...});
#endif
}
INLINE void transpose(F v[LANES]) {
  using Every = std::make_index_sequence<LANES>;
#pragma GCC unroll 4
  for (int step = 1; step < LANES; step *= 2) {
    F next[LANES];
#pragma GCC unroll 16
    for (int n = 0; n < LANES / 2; n++) {
      next[2 * n] = interleave<0>(v[n], v[n + LANES / 2], Every());
      next[2 * n + 1] = interleave<1>(v[n], v[n + LANES / 2], Every());
    }
#pragma GCC unroll 16
    for (int n = 0; n < LANES; n++) v[n] = next[n];
  }
}

// Up to LANES blocks: where each starts, its number, its sample.
struct Lanes {
  int64_t at[LANES];
  uint32_t number[LANES];
  int64_t sample[LANES];
  int count;
};

enum Way { ADJACENT, ALONG, SCATTERED };  // lanes side by side in memory; a block's elements side by side; neither

INLINE Way way(const RoundJob &job, const RoundRegion &region, const Lanes &lanes) {
  if (lanes.count < LANES || region.columns < job.block) return SCATTERED;
  return job.how.inner == 1 ? ALONG : job.how.inner >= LANES ? ADJACENT : SCATTERED;
}

template <int K> INLINE void load(const RoundJob &job, const RoundRegion &region, const Lanes &lanes, const float *x, F v[K]) {
  const int64_t stride = job.how.inner;
  switch (way(job, region, lanes)) {
    case ADJACENT:
#pragma GCC unroll 32
      for (int j = 0; j < K; j++) v[j] = loadf(x + lanes.at[0] + j * stride);
      return;
    case ALONG:
#pragma GCC unroll 8
      for (int part = 0; part < K; part += LANES) {
#pragma GCC unroll 16
        for (int l = 0; l < LANES; l++) v[part + l] = loadf(x + lanes.at[l] + part);
        transpose(v + part);
      }
      return;
    default: {
      alignas(64) float held[K][LANES] = {};
      for (int l = 0; l < lanes.count; l++)
        for (int j = 0; j < region.columns; j++) held[j][l] = x[lanes.at[l] + j * stride];
#pragma GCC unroll 32
      for (int j = 0; j < K; j++) v[j] = loadf(held[j]);
    }
  }
}

template <int K> INLINE void store(const RoundJob &job, const RoundRegion &region, const Lanes &lanes, float *y, F v[K]) {
  const int64_t stride = job.how.inner;
  switch (way(job, region, lanes)) {
    case ADJACENT:
#pragma GCC unroll 32
      for (int j = 0; j < K; j++) storef(y + lanes.at[0] + j * stride, v[j]);
      return;
    case ALONG:
#pragma GCC unroll 8
      for (int part = 0; part < K; part += LANES) {
        transpose(v + part);
#pragma GCC unroll 16
        for (int l = 0; l < LANES; l++) storef(y + lanes.at[l] + part, v[part + l]);
      }
      return;
    default: {
      alignas(64) float held[K][LANES];
#pragma GCC unroll 32
      for (int j = 0; j < K; j++) storef(held[j], v[j]);
      for (int l = 0; l < lanes.count; l++)
        for (int j = 0; j < region.columns; j++) y[lanes.at[l] + j * stride] = held[j][l];
    }
  }
}

// Sylvester's matrix of order 16 over 4, butterfly by butterfly; its own inverse.
INLINE void hadamard(F v[16]) {
#pragma GCC unroll 4
  for (int h = 1; h < 16; h *= 2)
#pragma GCC unroll 16
    for (int j = 0; j < 16; j++)
      if (!(j & h)) {
        const F a = v[j], b = v[j + h];
        v[j] = a + b;
        v[j + h] = a - b;
      }
#pragma GCC unroll 16
  for (int j = 0; j < 16; j++) v[j] *= 0.25f;
}
template <int K> INLINE void flip(int32_t signs, F v[K]) {
#pragma GCC unroll 16
  for (int j = 0; j < 16; j++) v[j] = value(bits(v[j]) ^ i((signs >> j & 1) ? SIGN : 0));
}
// Every whole group of 16; what is left of a short block stays as it is.
template <int K> INLINE void turn(const RoundJob &job, const RoundRegion &region, bool back, F v[K]) {
  if (job.how.signs < 0) return;
#pragma GCC unroll 2
  for (int at = 0; at < K; at += 16) {
    if (at + 16 > region.columns) return;
    if (!back) flip<K>(job.how.signs, v + at);
    hadamard(v + at);
    if (back) flip<K>(job.how.signs, v + at);
  }
}

template <int K> INLINE F largest_of(F v[K]) {
  F most = absolute(v[0]);
#pragma GCC unroll 32
  for (int j = 1; j < K; j++) most = larger(most, absolute(v[j]));
  return most;
}

// What a block's maximum decides: the factor into units of a code, and the values of the codes 1 and 1.5.
struct Scales {
  F multiplier, one, three, scale, level;
};

INLINE F e4m3(F a) {  // to the nearest, ties to even; 0 <= a <= 448
  const I binade = larger(bits(a) & EXPONENT, i(0x3c800000));  // 2^-6
  const F magic = value(binade + 0x0a400000);                  // 1.5 * 2^20 times as much: its last place is the step
  return (a + magic) - magic;
}

struct Level {
  F scale, inverse, sixth;
};
INLINE Level level_of(const RoundJob &job, const Lanes &lanes) {
  if (job.how.samples == 1) return {f(job.level[0].scale), f(job.level[0].inverse), f(job.level[0].sixth)};
  Level out{f(1.0f), f(1.0f), f(1.0f)};
  for (int l = 0; l < lanes.count; l++) {
    const RoundLevel &level = job.level[lanes.sample[l]];
    out.scale[l] = level.scale, out.inverse[l] = level.inverse, out.sixth[l] = level.sixth;
  }
  return out;
}

INLINE Scales nvfp4(F largest, float ratio, float widen, const Level &level) {
  const F wanted = larger(largest, f(0.0f)) * ratio * level.sixth * widen;
  const F scale = e4m3(smaller(wanted, f(448.0f)));
  const F step = scale * level.inverse;
  const F multiplier = scale > 0.0f ? smaller(1.0f / step, f(LARGEST)) : f(0.0f);
  return {multiplier, scale / level.scale, scale * 1.5f / level.scale, scale, level.scale};
}

INLINE Scales mxfp4(F largest, float ratio) {
  const I exponent = larger(bits(largest * ratio) & EXPONENT, i(2 << 23)) - (2 << 23);  // biased; 0 stands for 2^-127
  const F scale = exponent > 0 ? value(exponent) : value(i(0x00400000));
  return {1.0f / scale, scale, scale * 1.5f, scale, f(1.0f)};
}

INLINE F nearest(F a) {  // 0 <= a <= 6
  const I binade = larger(bits(a) & EXPONENT, i(0x3f800000));
  const F magic = value(binade + 0x0b400000);
  return (a + magic) - magic;
}
INLINE F drawn(F a, I chance) {  // chance: 22 bits. Below 1 the step is that of the binade above
  const F one = value(bits(f(1.0f)) & (a < 1.0f));
  const F up = value((bits(a + one) + chance) & i(int32_t(0xffc00000u)));
  return up - one;
}
INLINE F units(F x, const Scales &scales) { return smaller(absolute(x) * scales.multiplier, f(6.0f)); }
INLINE F signed_as(F magnitude, F x) { return value(bits(magnitude) | (bits(x) & SIGN)); }
INLINE F decoded(F code, const Scales &scales) {  // a code is 1 or 1.5 times a power of two
  const F power = value(bits(code) & i(int32_t(0xff800000u)));
  return power * ((bits(code) & 0x00400000) != 0 ? scales.three : scales.one);
}
INLINE F divided(F code, const Scales &scales) { return code * scales.scale / scales.level; }

INLINE U hashed(U x, const uint32_t key[2]) {  // multipliers and shifts: C. Wellons, hash-prospector (lowbias32)
  x ^= key[0];
  x ^= x >> 16;
  x *= 0x21f0aaadu;
  x += key[1];
  x ^= x >> 15;
  x *= 0xd35a2d97u;
  return x ^ x >> 15;
}

// Two draws of 22 bits from each word, its lower end and its upper: for element j and for the one half a block further.
template <int K> INLINE void round_drawn(const RoundJob &job, U number, const Scales &scales, bool divide, F v[K]) {
  const U first = number * uint32_t(K / 2);
#pragma GCC unroll 16
  for (int j = 0; j < K / 2; j++) {
    const U word = hashed(first + uint32_t(j), job.key);
    const F a = drawn(units(v[j], scales), I(word & 0x003fffffu)), b = drawn(units(v[j + K / 2], scales), I(word >> 10));
    v[j] = signed_as(divide ? divided(a, scales) : decoded(a, scales), v[j]);
    v[j + K / 2] = signed_as(divide ? divided(b, scales) : decoded(b, scales), v[j + K / 2]);
  }
}
template <int K> INLINE void round_nearest(const Scales &scales, bool divide, F v[K]) {
#pragma GCC unroll 32
  for (int j = 0; j < K; j++) {
    const F code = nearest(units(v[j], scales));
    v[j] = signed_as(divide ? divided(code, scales) : decoded(code, scales), v[j]);
  }
}
template <int K> INLINE void apply(const RoundJob &job, U number, const Scales &scales, F v[K]) {
  if (job.divide)
    job.how.stochastic ? round_drawn<K>(job, number, scales, true, v) : round_nearest<K>(scales, true, v);
  else
    job.how.stochastic ? round_drawn<K>(job, number, scales, false, v) : round_nearest<K>(scales, false, v);
}

template <int K> INLINE F error_of(F sum, const Scales &scales, bool divide, const F v[K]) {
  for (int j = 0; j < K; j++) {
    const F code = nearest(units(v[j], scales));
    const F off = (divide ? divided(code, scales) : decoded(code, scales)) - absolute(v[j]);
    sum += off * off;
  }
  return sum;
}

INLINE Scales better(const Scales &six, const Scales &four, F error_six, F error_four) {
  const I lower = error_four < error_six;
  return {lower ? four.multiplier : six.multiplier, lower ? four.one : six.one, lower ? four.three : six.three,
          lower ? four.scale : six.scale, six.level};
}

constexpr float UNBIASED = 17.0f / 16.0f;  // leaves room for a scale that is rounded down, so that nothing is cut off

INLINE U number_of(const Lanes &lanes) {
  U out;
  std::memcpy(&out, lanes.number, sizeof out);
  return out;
}

INLINE Scales amax_scales(const RoundJob &job, const Lanes &lanes, F largest) {
  if (job.how.format == NW_ROUND_MXFP4) return mxfp4(largest, job.how.ratio);
  return nvfp4(largest, job.how.ratio, 1.0f, level_of(job, lanes));
}

// One row of blocks under the plain rule: elements stay in registers from load to store.
template <int K> INLINE void round_row(const RoundJob &job, const RoundRegion &region, const Lanes &lanes) {
  F v[K];
  load<K>(job, region, lanes, job.x, v);
  turn<K>(job, region, false, v);
  const Scales scales = amax_scales(job, lanes, largest_of<K>(v));
  apply<K>(job, number_of(lanes), scales, v);
  turn<K>(job, region, true, v);
  store<K>(job, region, lanes, job.y, v);
}

// Several rows, or two rules of which the better is taken.
template <int K> INLINE void round_rows(const RoundJob &job, const RoundRegion &region, const Lanes &lanes) {
  const nw_rounding &how = job.how;
  const int64_t row = how.mid * how.length * how.inner, row_numbers = how.mid * job.blocks * how.inner;
  F v[K], largest = {};
  for (int r = 0; r < region.rows; r++) {
    load<K>(job, region, lanes, job.x + r * row, v);
    turn<K>(job, region, false, v);
    largest = larger(largest, largest_of<K>(v));
  }
  Scales scales;
  if (how.rule == 0) {
    scales = amax_scales(job, lanes, largest);
  } else {
    const Level level = level_of(job, lanes);
    const float widen = how.stochastic ? UNBIASED : 1.0f;
    scales = nvfp4(largest, how.ratio, widen, level);
    const Scales four = nvfp4(largest, how.ratio, widen * 1.5f, level);
    F error_six = {}, error_four = {};
    for (int r = 0; r < region.rows; r++) {
      if (region.rows > 1) load<K>(job, region, lanes, job.x + r * row, v);
      error_six = error_of<K>(error_six, scales, job.divide, v);
      error_four = error_of<K>(error_four, four, job.divide, v);
    }
    scales = better(scales, four, error_six, error_four);
  }
  for (int r = 0; r < region.rows; r++) {
    if (region.rows > 1) load<K>(job, region, lanes, job.x + r * row, v);
    apply<K>(job, number_of(lanes) + uint32_t(r * row_numbers), scales, v);
    turn<K>(job, region, true, v);
    store<K>(job, region, lanes, job.y + r * row, v);
  }
}

// A block of the region by its counters; lanes run along inner, then to the next block.
struct Walk {
  const RoundJob &job;
  const RoundRegion &region;
  int64_t column, mid, row, outer, inner;
  Walk(const RoundJob &job, const RoundRegion &region, int64_t lane) : job(job), region(region) {
    inner = lane % job.how.inner, lane /= job.how.inner;
    column = lane % region.column_blocks, lane /= region.column_blocks;
    mid = lane % job.how.mid, lane /= job.how.mid;
    row = lane % region.row_blocks, outer = lane / region.row_blocks;
  }
  void next_block() {
    inner = 0;
    if (++column < region.column_blocks) return;
    column = 0;
    if (++mid < job.how.mid) return;
    mid = 0;
    if (++row < region.row_blocks) return;
    row = 0, outer++;
  }
  void put(Lanes &lanes, int l) const {
    const nw_rounding &how = job.how;
    const int64_t line = (outer * how.rows + region.row_first + row * region.rows) * how.mid + mid;
    lanes.at[l] = (line * how.length + region.column_first + column * region.columns) * how.inner + inner;
    lanes.number[l] = uint32_t((line * job.blocks + region.column_first / job.block + column) * how.inner + inner);
    lanes.sample[l] = how.samples == 1 ? 0 : outer / (how.outer / how.samples);
  }
};

inline int64_t blocks_in(const RoundJob &job, const RoundRegion &region) {
  return job.how.outer * region.row_blocks * job.how.mid * region.column_blocks;
}
inline int64_t items(const RoundJob &job, const RoundRegion &region) {
  if (job.how.inner >= LANES) return blocks_in(job, region);
  return (blocks_in(job, region) * job.how.inner + LANES - 1) / LANES;
}

template <class Each> INLINE void wide_lanes(const RoundJob &job, const RoundRegion &region, int64_t begin, int64_t end, Each each) {
  const int64_t inner = job.how.inner;
  Walk walk(job, region, begin * inner);
  Lanes lanes;
  for (int64_t item = begin; item < end; item++, walk.next_block()) {
    walk.put(lanes, 0);
    for (int l = 1; l < LANES; l++) {
      lanes.at[l] = lanes.at[0] + l;
      lanes.number[l] = lanes.number[0] + uint32_t(l);
      lanes.sample[l] = lanes.sample[0];
    }
    for (int64_t first = 0; first < inner; first += LANES) {
      lanes.count = int(inner - first < LANES ? inner - first : LANES);
      each(lanes);
      for (int l = 0; l < LANES; l++) lanes.at[l] += LANES, lanes.number[l] += LANES;
    }
  }
}
template <class Each> INLINE void narrow_lanes(const RoundJob &job, const RoundRegion &region, int64_t begin, int64_t end, Each each) {
  const int64_t all = blocks_in(job, region) * job.how.inner;
  Walk walk(job, region, begin * LANES);
  Lanes lanes;
  for (int64_t item = begin; item < end; item++) {
    lanes.count = int(all - item * LANES < LANES ? all - item * LANES : LANES);
    if (job.how.inner == 1 && walk.column + LANES <= region.column_blocks) {  // one row holds them all
      walk.put(lanes, 0);
      for (int l = 1; l < LANES; l++) {
        lanes.at[l] = lanes.at[0] + l * region.columns;
        lanes.number[l] = lanes.number[0] + uint32_t(l);
        lanes.sample[l] = lanes.sample[0];
      }
      walk.column += LANES - 1;
      walk.next_block();
    } else {
      for (int l = 0; l < LANES; l++) {
        if (l >= lanes.count) {
          lanes.number[l] = 0;
          continue;
        }
        walk.put(lanes, l);
        if (++walk.inner == job.how.inner) walk.next_block();
      }
    }
    each(lanes);
  }
}
template <class Each> INLINE void each_tile(const RoundJob &job, const RoundRegion &region, int64_t begin, int64_t end, Each each) {
  job.how.inner >= LANES ? wide_lanes(job, region, begin, end, each) : narrow_lanes(job, region, begin, end, each);
}

template <int K> INLINE void round_all(const RoundJob &job, const RoundRegion &region, int64_t begin, int64_t end) {
  if (region.rows == 1 && job.how.rule == 0)
    each_tile(job, region, begin, end, [&](const Lanes &lanes) { round_row<K>(job, region, lanes); });
  else
    each_tile(job, region, begin, end, [&](const Lanes &lanes) { round_rows<K>(job, region, lanes); });
}
inline void round_any(const RoundJob &job, const RoundRegion &region, int64_t begin, int64_t end) {
  job.block == 16 ? round_all<16>(job, region, begin, end) : round_all<32>(job, region, begin, end);
}

inline void measure(const RoundJob &job, const RoundRegion &region, int64_t begin, int64_t end) {
  const auto keep = [&](int64_t sample, float amax) {
    uint32_t to;
    std::memcpy(&to, &amax, 4);
    raise(job.largest[sample], to);
  };
  F all = {};
  each_tile(job, region, begin, end, [&](const Lanes &lanes) {
    F v[16];
    load<16>(job, region, lanes, job.x, v);
    turn<16>(job, region, false, v);
    const F most = largest_of<16>(v);
    if (job.how.samples == 1)
      all = larger(all, most);
    else
      for (int l = 0; l < lanes.count; l++) keep(lanes.sample[l], most[l]);
  });
  for (int l = 0; l < LANES && job.how.samples == 1; l++) keep(0, all[l]);
}

inline uint32_t largest(const float *x, int64_t n) {
  I most[4] = {};
  int64_t at = 0;
  for (; at + 4 * LANES <= n; at += 4 * LANES)
    for (int k = 0; k < 4; k++) most[k] = larger(most[k], bits(loadf(x + at + k * LANES)) & ~SIGN);
  const I all = larger(larger(most[0], most[1]), larger(most[2], most[3]));
  int32_t found = 0;
  for (int l = 0; l < LANES; l++) found = all[l] > found ? all[l] : found;
  for (; at < n; at++) {
    int32_t one;
    std::memcpy(&one, x + at, 4);
    found = (one & ~SIGN) > found ? (one & ~SIGN) : found;
  }
  return uint32_t(found);
}
