// The vector type of AVX-512 with VNNI and VBMI.
struct V {
  using I = __m512i;
  using F = __m512;
  static constexpr int LANES = 16, GEMM_ROWS = 6, GEMM_VECTORS = 2;
  static constexpr bool WIDE = true;
  INLINE static I load(const void *p) { return _mm512_loadu_si512(p); }
  INLINE static void store(void *p, I a) { _mm512_storeu_si512(p, a); }
  INLINE static F loadf(const float *p) { return _mm512_loadu_ps(p); }
  INLINE static void storef(float *p, F a) { _mm512_storeu_ps(p, a); }
  INLINE static I set1(int a) { return _mm512_set1_epi32(a); }
  INLINE static F set1f(float a) { return _mm512_set1_ps(a); }
  INLINE static I zero() { return _mm512_setzero_si512(); }
  INLINE static F zerof() { return _mm512_setzero_ps(); }
  INLINE static I add(I a, I b) { return _mm512_add_epi32(a, b); }
  INLINE static I and_(I a, I b) { return _mm512_and_si512(a, b); }
  template <int N> INLINE static I srl(I a) { return _mm512_srli_epi16(a, N); }
  template <int N> INLINE static I sll(I a) { return _mm512_slli_epi16(a, N); }
  template <int N> INLINE static I sra32(I a) { return _mm512_srai_epi32(a, N); }
  INLINE static I select(I mask, I a, I b) { return _mm512_ternarylogic_epi32(mask, a, b, 0xCA); }
  INLINE static I broadcast(const int8_t *p) {
    int32_t v;
    std::memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
  }
  INLINE static I dot(I sum, I u, I s) { return _mm512_dpbusd_epi32(sum, u, s); }
  INLINE static I dot_full(I sum, I u, I s) { return dot(sum, u, s); }
  INLINE static F cvt(I a) { return _mm512_cvtepi32_ps(a); }
  INLINE static I nearest(F a) { return _mm512_cvtps_epi32(a); }
  INLINE static I larger(I a, I b) { return _mm512_max_epu32(a, b); }
  INLINE static uint32_t largest(I a) { return _mm512_reduce_max_epu32(a); }
  INLINE static void narrow(I a, int8_t *p) { _mm_storeu_si128((__m128i *)p, _mm512_cvtepi32_epi8(a)); }
  INLINE static F fma(F a, F b, F c) { return _mm512_fmadd_ps(a, b, c); }
  INLINE static F fnma(F a, F b, F c) { return _mm512_fnmadd_ps(a, b, c); }
  INLINE static F mul(F a, F b) { return _mm512_mul_ps(a, b); }
  INLINE static I table() {
    return _mm512_broadcast_i32x4(_mm_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0));
  }
  // vpermb looks at six bits of each index: bits 4 and 5 choose among equal copies of the table, so nothing is masked
  INLINE static I e2m1_low(I a) { return _mm512_permutexvar_epi8(a, table()); }
  INLINE static I e2m1_high(I a) { return _mm512_permutexvar_epi8(_mm512_srli_epi16(a, 4), table()); }
  INLINE static F half(const uint8_t *p) { return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p)); }
  INLINE static F u8(const uint8_t *p) { return cvt(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p))); }
  INLINE static F e4m3(const uint8_t *p) {  // a positive E4M3 code shifted by 7 is the float16 of its value / 256
    return _mm512_cvtph_ps(_mm256_slli_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)p)), 7));
  }
  INLINE static F e8m0(const uint8_t *p) {  // code 0 is 2^-127, a subnormal
    const I exponent = _mm512_slli_epi32(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)), 23);
    return _mm512_castsi512_ps(_mm512_max_epu32(exponent, _mm512_set1_epi32(0x00400000)));
  }
  INLINE static void to_half(const float *x, uint16_t *y) {
    _mm256_storeu_si256((__m256i *)y, _mm512_cvtps_ph(_mm512_loadu_ps(x), _MM_FROUND_TO_NEAREST_INT));
  }
  INLINE static float sum(F a) { return _mm512_reduce_add_ps(a); }
  INLINE static void keep(I &a) { asm volatile("" : "+v"(a)); }
};
