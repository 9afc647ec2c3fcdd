// The vector type of 64-bit Arm with the dot-product extension.
struct V {
  using I = int32x4_t;
  using F = float32x4_t;
  static constexpr int LANES = 4, GEMM_ROWS = 4, GEMM_VECTORS = 2;
  static constexpr bool WIDE = false;  // sdot takes signed bytes: codes up to 127
  INLINE static uint8x16_t bytes(I a) { return vreinterpretq_u8_s32(a); }
  INLINE static I words(uint8x16_t a) { return vreinterpretq_s32_u8(a); }
  INLINE static I load(const void *p) { return words(vld1q_u8((const uint8_t *)p)); }
  INLINE static void store(void *p, I a) { vst1q_u8((uint8_t *)p, bytes(a)); }
  INLINE static F loadf(const float *p) { return vld1q_f32(p); }
  INLINE static void storef(float *p, F a) { vst1q_f32(p, a); }
  INLINE static I set1(int a) { return vdupq_n_s32(a); }
  INLINE static F set1f(float a) { return vdupq_n_f32(a); }
  INLINE static I zero() { return vdupq_n_s32(0); }
  INLINE static F zerof() { return vdupq_n_f32(0); }
  INLINE static I add(I a, I b) { return vaddq_s32(a, b); }
  INLINE static I and_(I a, I b) { return vandq_s32(a, b); }
  template <int N> INLINE static I srl(I a) { return words(vshrq_n_u8(bytes(a), N)); }
  template <int N> INLINE static I sll(I a) { return words(vshlq_n_u8(bytes(a), N)); }
  template <int N> INLINE static I sra32(I a) { return vshrq_n_s32(a, N); }
  INLINE static I select(I mask, I a, I b) { return vbslq_s32(vreinterpretq_u32_s32(mask), a, b); }
  INLINE static I broadcast(const int8_t *p) {
    int32_t v;
    std::memcpy(&v, p, 4);
    return vdupq_n_s32(v);
  }
  INLINE static I dot(I sum, I u, I s) { return vdotq_s32(sum, vreinterpretq_s8_s32(u), vreinterpretq_s8_s32(s)); }
  INLINE static I dot_full(I sum, I u, I s) {  // (u - 128) s + 64 s + 64 s
    const int8x16_t half = vdupq_n_s8(64), b = vreinterpretq_s8_s32(s);
    const int8x16_t moved = vreinterpretq_s8_u8(veorq_u8(bytes(u), vdupq_n_u8(128)));
    return vdotq_s32(vdotq_s32(vdotq_s32(sum, moved, b), half, b), half, b);
  }
  INLINE static F cvt(I a) { return vcvtq_f32_s32(a); }
  INLINE static I nearest(F a) { return vcvtnq_s32_f32(a); }
  INLINE static I larger(I a, I b) { return vreinterpretq_s32_u32(vmaxq_u32(vreinterpretq_u32_s32(a), vreinterpretq_u32_s32(b))); }
  INLINE static uint32_t largest(I a) { return vmaxvq_u32(vreinterpretq_u32_s32(a)); }
  INLINE static void narrow(I a, int8_t *p) {
    const int8x8_t b = vmovn_s16(vcombine_s16(vmovn_s32(a), vdup_n_s16(0)));
    const int32_t four = vget_lane_s32(vreinterpret_s32_s8(b), 0);
    std::memcpy(p, &four, 4);
  }
  INLINE static F fma(F a, F b, F c) { return vfmaq_f32(c, a, b); }
  INLINE static F fnma(F a, F b, F c) { return vfmsq_f32(c, a, b); }
  INLINE static F mul(F a, F b) { return vmulq_f32(a, b); }
  INLINE static I lookup(uint8x16_t index) {
    static const uint8_t table[16] = {12, 13, 14, 15, 16, 18, 20, 24, 12, 11, 10, 9, 8, 6, 4, 0};
    return words(vqtbl1q_u8(vld1q_u8(table), index));
  }
  INLINE static I e2m1_low(I a) { return lookup(vandq_u8(bytes(a), vdupq_n_u8(15))); }
  INLINE static I e2m1_high(I a) { return lookup(vshrq_n_u8(bytes(a), 4)); }
  INLINE static F half(const uint8_t *p) { return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(p))); }
  INLINE static uint32x4_t four(const uint8_t *p) {
    uint32_t v;
    std::memcpy(&v, p, 4);
    return vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(vdup_n_u32(v)))));
  }
  INLINE static F u8(const uint8_t *p) { return vcvtq_f32_u32(four(p)); }
  INLINE static F e4m3(const uint8_t *p) {  // a positive E4M3 code shifted by 7 is the float16 of its value / 256
    return vcvt_f32_f16(vreinterpret_f16_u16(vshl_n_u16(vmovn_u32(four(p)), 7)));
  }
  INLINE static F e8m0(const uint8_t *p) {  // code 0 is 2^-127, a subnormal
    return vreinterpretq_f32_u32(vmaxq_u32(vshlq_n_u32(four(p), 23), vdupq_n_u32(0x00400000u)));
  }
  INLINE static void to_half(const float *x, uint16_t *y) { vst1_u16(y, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(x)))); }
  INLINE static float sum(F a) { return vaddvq_f32(a); }
  INLINE static void keep(I &a) { asm volatile("" : "+w"(a)); }
};
