// For the instruction sets' files only.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>

#if defined(_MSC_VER)
#define INLINE __forceinline
#else
#define INLINE inline __attribute__((always_inline))
#endif

INLINE void prefetch(const void *at) {
#if defined(__GNUC__)
  __builtin_prefetch(at, 0, 3);
#else
  (void)at;
#endif
}
