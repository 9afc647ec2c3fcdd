// Small floating-point types, one value at a time. For packing and looking up rows; kernels have vector forms of their own.
#pragma once
#include <cstdint>
#include <cstring>

namespace nw {

inline float from_bits(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

inline float from_half(uint16_t bits) {
  const uint32_t magnitude = bits & 0x7fffu;
  const uint32_t wide = magnitude >= 0x7c00 ? 224u << 23 : 112u << 23;  // infinity and NaN keep the largest exponent
  const float value = magnitude < 0x400 ? float(magnitude) * 5.9604644775390625e-8f : from_bits((magnitude << 13) + wide);
  return bits & 0x8000 ? -value : value;
}

inline float from_e4m3(uint8_t code) {
  const int exponent = code >> 3 & 15, mantissa = code & 7;
  const float value = exponent ? from_bits(uint32_t(exponent + 120) << 23 | uint32_t(mantissa) << 20) : float(mantissa) * 0.001953125f;
  return code & 0x80 ? -value : value;
}

inline float from_e8m0(uint8_t code) { return from_bits(code ? uint32_t(code) << 23 : 0x00400000u); }

}  // namespace nw
