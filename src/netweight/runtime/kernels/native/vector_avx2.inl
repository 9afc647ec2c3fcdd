// The vector type of AVX2 with FMA and F16C. DOT is the product of four unsigned and four signed bytes, summed to 32 bits.
struct V {
  using I = __m256i;
  using F = __m256;
  static constexpr int LANES = 8, GEMM_ROWS = 4, GEMM_VECTORS = 1;
#ifdef NW_AVXVNNI
  static constexpr bool WIDE = true;
  INLINE static I dot(I sum, I u, I s) { return _mm256_dpbusd_avx_epi32(sum, u, s); }
  INLINE static I dot_full(I sum, I u, I s) { return dot(sum, u, s); }
#else
  // vpmaddubsw adds two products in 16 bits: exact for codes up to 128, so shifted codes would not do
  static constexpr bool WIDE = false;
  INLINE static I dot(I sum, I u, I s) {
    return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(u, s), _mm256_set1_epi16(1)));
  }
  INLINE static I dot_full(I sum, I u, I s) {  // the top bit apart
    const I low = _mm256_and_si256(u, _mm256_set1_epi8(127));
    const I top = _mm256_and_si256(_mm256_srli_epi16(u, 7), _mm256_set1_epi8(1));
    return _mm256_add_epi32(dot(sum, low, s), _mm256_madd_epi16(_mm256_maddubs_epi16(top, s), _mm256_set1_epi16(128)));
  }
#endif
  INLINE static I load(const void *p) { return _mm256_loadu_si256((const I *)p); }
  INLINE static void store(void *p, I a) { _mm256_storeu_si256((I *)p, a); }
  INLINE static F loadf(const float *p) { return _mm256_loadu_ps(p); }
  INLINE static void storef(float *p, F a) { _mm256_storeu_ps(p, a); }
  INLINE static I set1(int a) { return _mm256_set1_epi32(a); }
  INLINE static F set1f(float a) { return _mm256_set1_ps(a); }
  INLINE static I zero() { return _mm256_setzero_si256(); }
  INLINE static F zerof() { return _mm256_setzero_ps(); }
  INLINE static I add(I a, I b) { return _mm256_add_epi32(a, b); }
  INLINE static I and_(I a, I b) { return _mm256_and_si256(a, b); }
  template <int N> INLINE static I srl(I a) { return _mm256_srli_epi16(a, N); }
  template <int N> INLINE static I sll(I a) { return _mm256_slli_epi16(a, N); }
  template <int N> INLINE static I sra32(I a) { return _mm256_srai_epi32(a, N); }
  INLINE static I select(I mask, I a, I b) {
    return _mm256_or_si256(_mm256_and_si256(mask, a), _mm256_andnot_si256(mask, b));
  }
  INLINE static I broadcast(const int8_t *p) {
    int32_t v;
    std::memcpy(&v, p, 4);
    return _mm256_set1_epi32(v);
  }
  INLINE static F cvt(I a) { return _mm256_cvtepi32_ps(a); }
  INLINE static I nearest(F a) { return _mm256_cvtps_epi32(a); }
  INLINE static I larger(I a, I b) { return _mm256_max_epu32(a, b); }
  INLINE static uint32_t largest(I a) {
    __m128i b = _mm_max_epu32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    b = _mm_max_epu32(b, _mm_shuffle_epi32(b, 0x4e));
    return uint32_t(_mm_cvtsi128_si32(_mm_max_epu32(b, _mm_shuffle_epi32(b, 0xb1))));
  }
  INLINE static void narrow(I a, int8_t *p) {
    const __m128i b = _mm_packs_epi32(_mm256_castsi256_si128(a), _mm256_extracti128_si256(a, 1));
    _mm_storel_epi64((__m128i *)p, _mm_packs_epi16(b, b));
  }
  INLINE static F fma(F a, F b, F c) { return _mm256_fmadd_ps(a, b, c); }
  INLINE static F fnma(F a, F b, F c) { return _mm256_fnmadd_ps(a, b, c); }
  INLINE static F mul(F a, F b) { return _mm256_mul_ps(a, b); }
  INLINE static I lookup(I index) {
    const I table = _mm256_setr_epi8(12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0,  //
                                     12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0);
    return _mm256_shuffle_epi8(table, _mm256_and_si256(index, _mm256_set1_epi8(15)));
  }
  INLINE static I e2m1_low(I a) { return lookup(a); }
  INLINE static I e2m1_high(I a) { return lookup(_mm256_srli_epi16(a, 4)); }
  INLINE static F half(const uint8_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p)); }
  INLINE static F u8(const uint8_t *p) { return cvt(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p))); }
  INLINE static F e4m3(const uint8_t *p) {  // a positive E4M3 code shifted by 7 is the float16 of its value / 256
    return _mm256_cvtph_ps(_mm_slli_epi16(_mm_cvtepu8_epi16(_mm_loadl_epi64((const __m128i *)p)), 7));
  }
  INLINE static F e8m0(const uint8_t *p) {  // code 0 is 2^-127, a subnormal
    const I exponent = _mm256_slli_epi32(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)), 23);
    return _mm256_castsi256_ps(_mm256_max_epu32(exponent, _mm256_set1_epi32(0x00400000)));
  }
  INLINE static void to_half(const float *x, uint16_t *y) {
    _mm_storeu_si128((__m128i *)y, _mm256_cvtps_ph(_mm256_loadu_ps(x), _MM_FROUND_TO_NEAREST_INT));
  }
  INLINE static float sum(F a) {
    __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    b = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(b, _mm_movehdup_ps(b)));
  }
  INLINE static void keep(I &a) { asm volatile("" : "+x"(a)); }
};
