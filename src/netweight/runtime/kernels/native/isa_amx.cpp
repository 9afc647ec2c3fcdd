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

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t columns[16] = {};
  uint8_t rows[16] = {};
};

struct Scratch {
  Slab slab;
  alignas(64) int32_t product[2][4][TOKENS][16];  // of this segment and of the one before
  alignas(64) float total[2 * TOKENS][TILE];      // beside y, whose rows may lie a power of two apart
};

// Registers 0-3: sums (two groups of tokens x two halves of the 32 outputs); 4, 5: tokens; 6, 7: codes.
void configure(int first_tokens, int second_tokens, int columns) {
  TileConfig config;
  for (int i = 0; i < 4; i++) {
    config.rows[i] = uint8_t(i < 2 ? first_tokens : second_tokens);
    config.columns[i] = 64;
  }
  config.rows[4] = uint8_t(first_tokens);
  config.rows[5] = uint8_t(second_tokens);
  config.columns[4] = config.columns[5] = uint16_t(columns);
  config.rows[6] = config.rows[7] = uint8_t(columns / 4);
  config.columns[6] = config.columns[7] = 64;
  _tile_loadconfig(&config);
}

// total += what the sums of one segment stand for
template <bool ZERO>
INLINE void add_products(const int32_t (*product)[TOKENS][16], const Slab &slab, int at, int sum_at, int32_t offset,
                         const Activations &x, int64_t block, int64_t m0, int tokens, float (*total)[TILE]) {
  const F s0 = V::loadf(slab.scale[at]), s1 = V::loadf(slab.scale[at] + 16);
  const F z0 = V::loadf(slab.zero[at]), z1 = V::loadf(slab.zero[at] + 16);
  const int64_t blocks = x.stride / BLOCK;
  const float *scale = x.scale + m0 * blocks + block;
  const int32_t *sums = x.sum + (m0 * blocks + block) * SUMS + sum_at;
  for (int i = 0; i < tokens; i++, scale += blocks, sums += blocks * SUMS) {
    const F sx = V::set1f(*scale);
    F t0, t1;
    if (ZERO) {
      const F b = V::set1f(float(*sums));
      t0 = V::fnma(z0, b, V::cvt(V::load(product[0][i])));
      t1 = V::fnma(z1, b, V::cvt(V::load(product[1][i])));
    } else {
      const I b = V::set1(-offset * *sums);
      t0 = V::cvt(V::add(V::load(product[0][i]), b));
      t1 = V::cvt(V::add(V::load(product[1][i]), b));
    }
    V::storef(total[i], V::fma(t0, V::mul(s0, sx), V::loadf(total[i])));
    V::storef(total[i] + 16, V::fma(t1, V::mul(s1, sx), V::loadf(total[i] + 16)));
  }
}

// One segment's sums: 2 x TOKENS rows of x times the 32 outputs.
INLINE void multiply_tiles(const uint8_t *codes, const int8_t *q, int64_t stride, bool second, int32_t (*product)[TOKENS][16]) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_loadd(6, codes, CHUNK);
  _tile_loadd(4, q, stride);
  _tile_loadd(7, codes + 64, CHUNK);
  _tile_dpbsud(0, 4, 6);
  _tile_dpbsud(1, 4, 7);
  if (second) {
    _tile_zero(2);
    _tile_zero(3);
    _tile_loadd(5, q + TOKENS * stride, stride);
    _tile_dpbsud(2, 5, 6);
    _tile_dpbsud(3, 5, 7);
  }
  _tile_stored(0, product[0], 64);
  _tile_stored(1, product[1], 64);
  if (second) {
    _tile_stored(2, product[2], 64);
    _tile_stored(3, product[3], 64);
  }
}

// The vector units scale the sums of one segment while the tiles multiply the next.
template <int SEG, bool ZERO>
void multiply_slab(Scratch &scratch, int64_t first, int64_t last, int32_t offset, const Activations &x, int64_t m, float *y,
                   int64_t y_stride) {
  constexpr int GROUPS = BLOCK / SEG;
  const int segments = int(last - first) * GROUPS;
  for (int64_t m0 = 0; m0 < m; m0 += 2 * TOKENS) {
    const int a = int(m - m0 < TOKENS ? m - m0 : TOKENS), b = int(m - m0 - a < TOKENS ? m - m0 - a : TOKENS);
    configure(a, b ? b : 1, SEG);
    for (int i = 0; i < a + b; i++)
      for (int v = 0; v < TILE; v += V::LANES)
        V::storef(scratch.total[i] + v, first ? V::loadf(y + (m0 + i) * y_stride + v) : V::zerof());
    const int8_t *q = x.q + m0 * x.stride + first * BLOCK;
    for (int at = 0; at <= segments; at++) {
      if (at < segments)
        multiply_tiles(scratch.slab.codes + at * (SEG / 4 * CHUNK), q + at * SEG, x.stride, b > 0, scratch.product[at % 2]);
      if (at == 0) continue;
      const auto *product = scratch.product[(at - 1) % 2];
      const int64_t block = first + (at - 1) / GROUPS;
      const int sum_at = SUM_AT<SEG> + (at - 1) % GROUPS;
      add_products<ZERO>(product, scratch.slab, at - 1, sum_at, offset, x, block, m0, a, scratch.total);
      if (b) add_products<ZERO>(product + 2, scratch.slab, at - 1, sum_at, offset, x, block, m0 + TOKENS, b, scratch.total + TOKENS);
    }
    for (int i = 0; i < a + b; i++)
      for (int v = 0; v < TILE; v += V::LANES) V::storef(y + (m0 + i) * y_stride + v, V::loadf(scratch.total[i] + v));
  }
}

void gemm_amx(const nw_matrix &w, int64_t tile, const Activations &x, int64_t m, float *y, int64_t y_stride, void *memory) {
  Scratch &scratch = *static_cast<Scratch *>(memory);
  const int64_t blocks = padded_k(w) / BLOCK;
  const bool zero = w.zero != NW_ZERO_CONST;
  const int32_t offset = w.kind == NW_E2M1 ? E2M1_OFFSET : zero ? 0 : w.offset;
  const int seg = segment_columns(w);
  for (int64_t first = 0; first < blocks; first += SLAB_BLOCKS) {
    const int64_t last = first + SLAB_BLOCKS < blocks ? first + SLAB_BLOCKS : blocks;
    unpack_slab_of(w, tile, first, last, scratch.slab);
#define NW_SEGMENT(SEG) \
  if (seg == SEG) \
  zero ? multiply_slab<SEG, true>(scratch, first, last, offset, x, m, y, y_stride) \
       : multiply_slab<SEG, false>(scratch, first, last, offset, x, m, y, y_stride)
    NW_SEGMENT(16);
    NW_SEGMENT(32);
    NW_SEGMENT(64);
#undef NW_SEGMENT
  }
  _tile_release();
  finish_rows(w, tile, m, y, y_stride);
}

int64_t amx_scratch(const nw_matrix &, int64_t) { return sizeof(Scratch); }

Ops with_tiles() {
  Ops all = *avx512_ops();
  all.name = "amx";
  all.gemm = gemm_amx;
  all.gemm_scratch = amx_scratch;
  return all;
}
}  // namespace
}  // namespace isa_amx

const Ops *amx_ops() {
  static const Ops all = isa_amx::with_tiles();
  return &all;
}
}  // namespace nw
