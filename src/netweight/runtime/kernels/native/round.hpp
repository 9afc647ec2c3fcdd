// Rounding to blocks of a small format and back, as simulated training wants it: what round.cpp hands to an instruction set.
#pragma once
#include <atomic>
#include <cstdint>

#include "netweight.h"

namespace nw {

// The second-level scale S of one sample and what is made of it, each rounded to float32 once.
struct RoundLevel {
  float scale, inverse, sixth;
};

// Blocks of one size: all but the last along an axis are full, so that a tensor has up to four regions.
struct RoundRegion {
  int64_t row_first, row_blocks, column_first, column_blocks;
  int rows, columns;  // of one block
};

struct RoundJob {
  nw_rounding how;
  const float *x;
  float *y;
  int block;             // elements of a full block along the axis: 16 or 32
  int64_t blocks;        // along the axis, a short last one included
  uint32_t key[2];       // what the seed became
  bool divide;           // scales so small that only a division of each value is exact
  const RoundLevel *level;             // of each sample
  std::atomic<uint32_t> *largest;      // of each sample, the bits of its largest magnitude; when measuring
};

// Groups along an axis by scales that are given: (outer, groups, inner) of them.
struct ScaledJob {
  static constexpr int64_t PLACES = 4096;  // of a group's first half, for one thread at a time
  nw_scaling how;
  const float *x, *scale;
  float *y;
  int64_t groups, half, pieces;  // half a group, rounded up; parts of it
  uint32_t key[2];
};

// What a seed becomes: splitmix64, Steele, Lea, Flood, OOPSLA 2014.
inline uint64_t mixed(uint64_t x) {
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}

// A maximum that threads share, as the bits of its magnitude. Static: each instruction set's file has its own.
static inline void raise(std::atomic<uint32_t> &largest, uint32_t to) {
  uint32_t now = largest.load(std::memory_order_relaxed);
  while (now < to && !largest.compare_exchange_weak(now, to, std::memory_order_relaxed)) {
  }
}

struct Rounding {
  int64_t (*items)(const RoundJob &job, const RoundRegion &region);
  void (*round)(const RoundJob &job, const RoundRegion &region, int64_t begin, int64_t end);
  void (*measure)(const RoundJob &job, const RoundRegion &region, int64_t begin, int64_t end);  // after the transform
  uint32_t (*largest)(const float *x, int64_t n);  // bits of the largest magnitude; of NaN they are above infinity's
  void (*scaled)(const ScaledJob &job, int64_t begin, int64_t end);
};

const Rounding *portable_rounding();
const Rounding *avx2_rounding();
const Rounding *avx512_rounding();
const Rounding *neon_rounding();

}  // namespace nw
