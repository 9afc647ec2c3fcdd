// nw_round_blocks: regions of equal blocks, the second-level scales, and the sharing of tiles among threads.
#include "round.hpp"

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <vector>

#include "ops.hpp"
#include "pool.hpp"

namespace nw {
namespace {

constexpr int64_t STRIP = 1 << 14;  // elements one thread looks through at a time
constexpr uint32_t INFINITE = 0x7f800000u;
constexpr float PLAIN = 1e33f;  // with S up to here scale / S and half of it are normal numbers

bool known(const nw_rounding &how) {
  const bool sizes = how.outer > 0 && how.rows > 0 && how.mid > 0 && how.length > 0 && how.inner > 0;
  const bool nvfp4 = how.format == NW_ROUND_NVFP4, mxfp4 = how.format == NW_ROUND_MXFP4;
  const bool square = how.row_block == 16 && nvfp4 && how.signs < 0;
  return sizes && (nvfp4 || mxfp4) && (square || (how.row_block == 1 && how.rows == 1 && how.mid == 1)) && how.samples > 0 &&
         how.outer % how.samples == 0 && (how.rule == 0 || (how.rule == 1 && nvfp4)) && how.ratio > 0;
}

std::vector<RoundRegion> regions(const nw_rounding &how, int block) {
  std::vector<RoundRegion> found;
  const int64_t rows = how.rows / how.row_block, columns = how.length / block;
  const int row_rest = int(how.rows % how.row_block), column_rest = int(how.length % block);
  for (int r = 0; r < 2; r++)
    for (int c = 0; c < 2; c++) {
      const RoundRegion one{r ? rows * how.row_block : 0, r ? (row_rest > 0) : rows,   c ? columns * block : 0,
                            c ? (column_rest > 0) : columns, r ? row_rest : how.row_block, c ? column_rest : block};
      if (one.row_blocks > 0 && one.column_blocks > 0) found.push_back(one);
    }
  return found;
}

void look_through(const Rounding &with, const RoundJob &job, int64_t elements) {
  const int64_t each = elements / job.how.samples, strips = (each + STRIP - 1) / STRIP;
  share(strips * job.how.samples, [&](int64_t begin, int64_t end) {
    for (int64_t item = begin; item < end; item++) {
      const int64_t sample = item / strips, first = item % strips * STRIP;
      raise(job.largest[sample], with.largest(job.x + sample * each + first, first + STRIP < each ? STRIP : each - first));
    }
  });
}

RoundLevel level_of(uint32_t largest, const nw_rounding &how) {
  float amax, scale = 1.0f;
  std::memcpy(&amax, &largest, 4);
  if (how.format != NW_ROUND_NVFP4) return {1.0f, 1.0f, 1.0f};
  if (amax > 0) scale = (how.rule == 1 ? 1536.0f : 2688.0f) / amax;
  if (scale > std::numeric_limits<float>::max()) scale = std::numeric_limits<float>::max();
  return {scale, 1.0f / scale, scale * (1.0f / 6.0f)};
}

// Rows of whole blocks that follow each other are one long row: the same blocks, the same numbers.
nw_rounding joined(nw_rounding how, int block) {
  if (how.inner != 1 || how.row_block != 1 || how.length % block) return how;
  how.length *= how.outer / how.samples;
  how.outer = how.samples;
  return how;
}

int round_blocks(const nw_rounding &asked, const float *x, float *y) {
  const Rounding *with = ops().rounding;
  if (!with || !known(asked)) return NW_BAD_SPEC;
  const int block = asked.format == NW_ROUND_MXFP4 ? 32 : 16;
  const nw_rounding how = joined(asked, block);
  const int64_t elements = how.outer * how.rows * how.mid * how.length * how.inner;
  const uint64_t key = mixed(how.seed);
  std::unique_ptr<std::atomic<uint32_t>[]> largest(new std::atomic<uint32_t>[size_t(how.samples)]);
  for (int64_t i = 0; i < how.samples; i++) largest[size_t(i)] = 0;
  std::vector<RoundLevel> level(size_t(how.samples));
  RoundJob job{how, x, y, block, (how.length + block - 1) / block, {uint32_t(key), uint32_t(key >> 32)}, false, level.data(), largest.get()};
  const std::vector<RoundRegion> parts = regions(how, block);
  look_through(*with, job, elements);
  std::vector<int64_t> broken;
  for (int64_t i = 0; i < how.samples; i++)
    if (largest[size_t(i)] >= INFINITE) broken.push_back(i);
  if (how.signs >= 0 && how.format == NW_ROUND_NVFP4) {  // the scale belongs to what is rounded
    for (int64_t i = 0; i < how.samples; i++) largest[size_t(i)] = 0;
    for (const RoundRegion &part : parts)
      share(with->items(job, part), [&](int64_t begin, int64_t end) { with->measure(job, part, begin, end); });
  }
  for (int64_t i = 0; i < how.samples; i++) {
    level[size_t(i)] = level_of(largest[size_t(i)], how);
    job.divide |= level[size_t(i)].scale > PLAIN;
  }
  for (const RoundRegion &part : parts)
    share(with->items(job, part), [&](int64_t begin, int64_t end) { with->round(job, part, begin, end); });
  for (int64_t i : broken)
    for (int64_t at = i * (elements / how.samples); at < (i + 1) * (elements / how.samples); at++)
      y[at] = std::numeric_limits<float>::quiet_NaN();
  return int(broken.size() > 0x7fffffff ? 0x7fffffff : broken.size());
}

}  // namespace
}  // namespace nw

extern "C" int nw_round_blocks(const nw_rounding *how, const float *x, float *y) {
  try {
    return nw::round_blocks(*how, x, y);
  } catch (const std::bad_alloc &) {
    return NW_NO_MEMORY;
  }
}
