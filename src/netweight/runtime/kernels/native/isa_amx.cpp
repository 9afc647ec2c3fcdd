// AVX-512 with the tile instructions for 8-bit integers: everything as in isa_avx512.cpp but for many rows of x.
#include <immintrin.h>

#include "inline.hpp"
#include "ops.hpp"

namespace nw {
namespace isa_amx {
namespace {
#include "vector_avx512.inl"

#include "kernels.inl"

constexpr int TOKENS = 16;  // rows of a tile register

// One block of GROUP rows of x.
struct alignas(64) Together {
  int8_t q[GROUP][BLOCK];
  float scale[GROUP];
  float sum[SUMS][GROUP];  // as in Activations
};

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t columns[16] = {};
  uint8_t rows[16] = {};
};

using Product = int32_t[2][2][TOKENS][16];  // of one segment: halves of the rows of x, then of the outputs

struct Scratch {
  Slab slab;
  alignas(64) Product product[2];  // of the segment at hand and of the one before
  alignas(64) float total[1][TILE];  // as many rows as x has, rounded up to whole groups
};

// Registers 0-3: sums, by half of the rows and half of the outputs; 4, 5: rows of x; 6, 7: codes.
void configure(int columns) {
  TileConfig config;
  for (int i = 0; i < 6; i++) config.rows[i] = TOKENS;
  for (int i = 0; i < 8; i++) config.columns[i] = 64;
  config.columns[4] = config.columns[5] = uint16_t(columns);
  config.rows[6] = config.rows[7] = uint8_t(columns / 4);
  _tile_loadconfig(&config);
}

// What the sums of a segment are to be scaled by.
struct Scaling {
  F scale[2], zero[2];  // by half of the outputs
  const float *sum, *row_scale;
};

// total += what the sums of a segment stand for, for COUNT rows from `first` on
template <int COUNT>
INLINE void add_products(const Product &product, const Scaling &by, int first, float (*total)[TILE]) {
#pragma GCC unroll 4
  for (int i = first; i < first + COUNT; i++)
    for (int v = 0; v < 2; v++) {
      const F t = V::fnma(by.zero[v], V::set1f(by.sum[i]), V::cvt(V::load(product[i / TOKENS][v][i % TOKENS])));
      V::storef(total[i] + v * 16, V::fma(V::mul(t, by.scale[v]), V::set1f(by.row_scale[i]), V::loadf(total[i] + v * 16)));
    }
}

// The tiles multiply one segment while the vector units scale the sums of the one before: in turns, so that even a core that
// shares its window with another thread has both in view. The compiler must not undo the order.
#define NW_TURN(COUNT, FIRST) \
  if (SCALE) add_products<COUNT>(before, by, FIRST, total); \
  asm volatile("" ::: "memory")

// HALVES of the rows; MULTIPLY is false behind the last segment, SCALE before the first.
template <int HALVES, bool MULTIPLY, bool SCALE>
INLINE void one_segment(const uint8_t *codes, const int8_t *q, Product &product, const Product &before, const Scaling &by,
                        float (*total)[TILE]) {
  constexpr int PART = HALVES * TOKENS / 8;
  if (!MULTIPLY) {
    NW_TURN(8 * PART, 0);
    return;
  }
  _tile_zero(0);
  _tile_zero(1);
  _tile_loadd(4, q, BLOCK);
  NW_TURN(PART, 0);
  _tile_loadd(6, codes, CHUNK);
  _tile_dpbsud(0, 4, 6);
  NW_TURN(PART, PART);
  if (HALVES == 2) {
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(5, q + TOKENS * BLOCK, BLOCK);
    _tile_dpbsud(2, 5, 6);
  }
  NW_TURN(PART, 2 * PART);
  _tile_loadd(7, codes + 64, CHUNK);
  _tile_dpbsud(1, 4, 7);
  if (HALVES == 2) _tile_dpbsud(3, 5, 7);
  NW_TURN(PART, 3 * PART);
  _tile_stored(0, product[0][0], 64);
  NW_TURN(PART, 4 * PART);
  if (HALVES == 2) _tile_stored(2, product[1][0], 64);
  NW_TURN(PART, 5 * PART);
  _tile_stored(1, product[0][1], 64);
  NW_TURN(PART, 6 * PART);
  if (HALVES == 2) _tile_stored(3, product[1][1], 64);
  NW_TURN(PART, 7 * PART);
}
#undef NW_TURN

// Blocks first … last of one group of rows, `from` being its block `first`
template <int SEG, bool ZERO, int HALVES>
void multiply_group(Scratch &scratch, int64_t first, int64_t last, float offset, const Together *from, float (*total)[TILE]) {
  constexpr int GROUPS = BLOCK / SEG;
  const int segments = int(last - first) * GROUPS;
  const auto codes = [&](int at) { return scratch.slab.codes + at * (SEG / 4 * CHUNK); };
  const auto rows = [&](int at) { return from[at / GROUPS].q[0] + at % GROUPS * SEG; };
  const auto scaling = [&](int at) {
    Scaling by;
    for (int v = 0; v < 2; v++) {
      by.scale[v] = V::loadf(scratch.slab.scale[at] + v * 16);
      by.zero[v] = ZERO ? V::loadf(scratch.slab.zero[at] + v * 16) : V::set1f(offset);
    }
    by.sum = from[at / GROUPS].sum[SUM_AT<SEG> + at % GROUPS];
    by.row_scale = from[at / GROUPS].scale;
    return by;
  };
  one_segment<HALVES, true, false>(codes(0), rows(0), scratch.product[0], scratch.product[1], {}, total);
  for (int at = 1; at < segments; at++)
    one_segment<HALVES, true, true>(codes(at), rows(at), scratch.product[at % 2], scratch.product[1 - at % 2], scaling(at - 1),
                                    total);
  const int end = segments - 1;
  one_segment<HALVES, false, true>(nullptr, nullptr, scratch.product[0], scratch.product[end % 2], scaling(end), total);
}

template <int SEG, bool ZERO>
void multiply_slab(Scratch &scratch, int64_t first, int64_t last, float offset, const Activations &x, int64_t m) {
  const Together *from = reinterpret_cast<const Together *>(x.groups) + first;
  for (int64_t m0 = 0; m0 < m; m0 += GROUP, from += x.stride / BLOCK) {
    if (m - m0 > TOKENS)
      multiply_group<SEG, ZERO, 2>(scratch, first, last, offset, from, scratch.total + m0);
    else
      multiply_group<SEG, ZERO, 1>(scratch, first, last, offset, from, scratch.total + m0);
  }
}

void gemm_amx(const nw_matrix &w, int64_t tile, const Activations &x, int64_t m, float *y, int64_t y_stride, void *memory) {
  if (w.group == 16) return gemm_tile(w, tile, x, m, y, y_stride, memory);  // a quarter of a tile's columns does not pay
  Scratch &scratch = *static_cast<Scratch *>(memory);
  const int64_t blocks = padded_k(w) / BLOCK;
  const bool zero = w.zero != NW_ZERO_CONST;
  const float offset = float(w.kind == NW_E2M1 ? E2M1_OFFSET : w.offset);
  const int seg = segment_columns(w);
  std::memset(scratch.total, 0, size_t(round_up(m, GROUP)) * sizeof scratch.total[0]);
  configure(seg);
  for (int64_t first = 0; first < blocks; first += SLAB_BLOCKS) {
    const int64_t last = first + SLAB_BLOCKS < blocks ? first + SLAB_BLOCKS : blocks;
    unpack_slab_of(w, tile, first, last, scratch.slab);
#define NW_SEGMENT(SEG) \
  if (seg == SEG) \
  zero ? multiply_slab<SEG, true>(scratch, first, last, offset, x, m) : multiply_slab<SEG, false>(scratch, first, last, offset, x, m)
    NW_SEGMENT(32);
    NW_SEGMENT(64);
#undef NW_SEGMENT
  }
  _tile_release();
  finish_rows(w, tile, m, scratch.total[0], TILE, y, y_stride);
}

int64_t amx_scratch(const nw_matrix &w, int64_t m) {
  return w.group == 16 ? gemm_scratch(w, m) : sizeof(Scratch) + round_up(m, GROUP) * int64_t(sizeof(float[TILE]));
}

int64_t group_bytes(int64_t stride) { return stride / BLOCK * int64_t(sizeof(Together)); }

void arrange(const Activations &x, int64_t m, int64_t group, uint8_t *to) {
  const int64_t blocks = x.stride / BLOCK;
  Together *all = reinterpret_cast<Together *>(to);
  for (int64_t block = 0; block < blocks; block++) {
    Together &one = all[block];
    for (int i = 0; i < GROUP; i++) {
      const int64_t row = group * GROUP + i, at = row * blocks + block;
      if (row < m) {
        V::store(one.q[i], V::load(x.q + row * x.stride + block * BLOCK));
        one.scale[i] = x.scale[at];
        for (int s = 0; s < SUMS; s++) one.sum[s][i] = x.float_sum[at * SUMS + s];
      } else {
        V::store(one.q[i], V::zero());
        one.scale[i] = 0;
        for (int s = 0; s < SUMS; s++) one.sum[s][i] = 0;
      }
    }
  }
}

Ops with_tiles() {
  Ops all = *avx512_ops();
  all.name = "amx";
  all.gemm = gemm_amx;
  all.gemm_scratch = amx_scratch;
  all.group_bytes = group_bytes;
  all.arrange = arrange;
  return all;
}
}  // namespace
}  // namespace isa_amx

const Ops *amx_ops() {
  static const Ops all = isa_amx::with_tiles();
  return &all;
}
}  // namespace nw
