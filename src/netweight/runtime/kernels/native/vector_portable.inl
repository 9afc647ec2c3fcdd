// A vector type of plain C++: eight lanes in an array, for CPUs nothing better is written for.
struct V {
  struct I {
    int32_t lane[8];
  };
  struct F {
    float lane[8];
  };
  static constexpr int LANES = 8, GEMM_ROWS = 4, GEMM_VECTORS = 1;
  static constexpr bool WIDE = true;
  template <class T, class Each> INLINE static T each(Each of) {
    T out;
    for (int i = 0; i < LANES; i++) out.lane[i] = of(i);
    return out;
  }
  INLINE static I load(const void *p) {
    I a;
    std::memcpy(&a, p, sizeof a);
    return a;
  }
  INLINE static void store(void *p, I a) { std::memcpy(p, &a, sizeof a); }
  INLINE static F loadf(const float *p) {
    F a;
    std::memcpy(&a, p, sizeof a);
    return a;
  }
  INLINE static void storef(float *p, F a) { std::memcpy(p, &a, sizeof a); }
  INLINE static I set1(int a) { return each<I>([&](int) { return a; }); }
  INLINE static F set1f(float a) { return each<F>([&](int) { return a; }); }
  INLINE static I zero() { return set1(0); }
  INLINE static F zerof() { return set1f(0.0f); }
  INLINE static I add(I a, I b) { return each<I>([&](int i) { return int32_t(uint32_t(a.lane[i]) + uint32_t(b.lane[i])); }); }
  INLINE static I and_(I a, I b) { return each<I>([&](int i) { return a.lane[i] & b.lane[i]; }); }
  template <int N> INLINE static I srl(I a) {  // bits that cross a byte are masked off by every caller
    return each<I>([&](int i) { return int32_t(uint32_t(a.lane[i]) >> N); });
  }
  template <int N> INLINE static I sll(I a) {
    return each<I>([&](int i) { return int32_t(uint32_t(a.lane[i]) << N); });
  }
  template <int N> INLINE static I sra32(I a) { return each<I>([&](int i) { return a.lane[i] >> N; }); }
  INLINE static I select(I mask, I a, I b) {
    return each<I>([&](int i) { return (mask.lane[i] & a.lane[i]) | (~mask.lane[i] & b.lane[i]); });
  }
  INLINE static I broadcast(const int8_t *p) {
    int32_t v;
    std::memcpy(&v, p, 4);
    return set1(v);
  }
  INLINE static I dot(I sum, I u, I s) {
    return each<I>([&](int i) {
      int32_t total = sum.lane[i];
      for (int byte = 0; byte < 4; byte++)
        total += int32_t(uint8_t(uint32_t(u.lane[i]) >> 8 * byte)) * int8_t(uint8_t(uint32_t(s.lane[i]) >> 8 * byte));
      return total;
    });
  }
  INLINE static I dot_full(I sum, I u, I s) { return dot(sum, u, s); }
  INLINE static F cvt(I a) { return each<F>([&](int i) { return float(a.lane[i]); }); }
  INLINE static I nearest(F a) {  // adding 1.5 * 2^23 rounds to a whole number, which then stands in the low bits
    return each<I>([&](int i) {
      const float moved = a.lane[i] + 12582912.0f;
      uint32_t bits;
      std::memcpy(&bits, &moved, 4);
      return int32_t(bits - 0x4b400000u);
    });
  }
  INLINE static I larger(I a, I b) {
    return each<I>([&](int i) { return uint32_t(a.lane[i]) > uint32_t(b.lane[i]) ? a.lane[i] : b.lane[i]; });
  }
  INLINE static uint32_t largest(I a) {
    uint32_t most = 0;
    for (int32_t lane : a.lane) most = uint32_t(lane) > most ? uint32_t(lane) : most;
    return most;
  }
  INLINE static void narrow(I a, int8_t *p) {
    for (int i = 0; i < LANES; i++) p[i] = int8_t(uint8_t(a.lane[i]));
  }
  INLINE static F fma(F a, F b, F c) { return each<F>([&](int i) { return a.lane[i] * b.lane[i] + c.lane[i]; }); }
  INLINE static F fnma(F a, F b, F c) { return each<F>([&](int i) { return c.lane[i] - a.lane[i] * b.lane[i]; }); }
  INLINE static F mul(F a, F b) { return each<F>([&](int i) { return a.lane[i] * b.lane[i]; }); }
  INLINE static I e2m1(I a, int shift) {
    static constexpr uint8_t table[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};
    return each<I>([&](int i) {
      uint32_t out = 0;
      for (int byte = 0; byte < 4; byte++) out |= uint32_t(table[uint32_t(a.lane[i]) >> (8 * byte + shift) & 15]) << 8 * byte;
      return int32_t(out);
    });
  }
  INLINE static I e2m1_low(I a) { return e2m1(a, 0); }
  INLINE static I e2m1_high(I a) { return e2m1(a, 4); }
  INLINE static F half(const uint8_t *p) {
    return each<F>([&](int i) {
      uint16_t bits;
      std::memcpy(&bits, p + 2 * i, 2);
      return from_half(bits);
    });
  }
  INLINE static F u8(const uint8_t *p) { return each<F>([&](int i) { return float(p[i]); }); }
  INLINE static F e4m3(const uint8_t *p) { return each<F>([&](int i) { return from_half(uint16_t(p[i] << 7)); }); }
  INLINE static F e8m0(const uint8_t *p) { return each<F>([&](int i) { return from_e8m0(p[i]); }); }
  INLINE static void to_half(const float *x, uint16_t *y) {
    for (int i = 0; i < LANES; i++) {
      uint32_t bits;
      std::memcpy(&bits, x + i, 4);
      const uint32_t sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
      uint32_t out;
      if (magnitude > 0x7f800000u) {
        out = 0x7e00;
      } else if (magnitude >= 0x477ff000u) {
        out = 0x7c00;
      } else if (magnitude < 0x38800000u) {  // subnormal: adding 0.5 leaves the rounded count of 2^-24 in the low bits
        float value;
        std::memcpy(&value, &magnitude, 4);
        value += 0.5f;
        std::memcpy(&out, &value, 4);
        out -= 0x3f000000u;
      } else {
        out = (magnitude + 0xfffu + (magnitude >> 13 & 1) - (112u << 23)) >> 13;
      }
      y[i] = uint16_t(out | sign);
    }
  }
  INLINE static float sum(F a) {
    float total = 0;
    for (float lane : a.lane) total += lane;
    return total;
  }
  INLINE static void keep(I &a) { asm volatile("" : "+m"(a)); }
};
