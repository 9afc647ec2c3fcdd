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
  alignas(64) int32_t product[4][TOKENS][16];
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

// y += what the sums of one segment stand for
template <bool ZERO>
INLINE void add_products(const int32_t (*product)[TOKENS][16], const Slab &slab, int at, int sum_at, int32_t offset,
                         const Activations &x, int64_t block, int64_t m0, int tokens, float *y, int64_t y_stride) {
  const F s0 = V::loadf(slab.scale[at]), s1 = V::loadf(slab.scale[at] + 16);
  const F z0 = V::loadf(slab.zero[at]), z1 = V::loadf(slab.zero[at] + 16);
  const int64_t blocks = x.stride / BLOCK;
  for (int i = 0; i < tokens; i++) {
    const int64_t where = (m0 + i) * blocks + block;
    const int32_t sum = x.sum[where * SUMS + sum_at];
    const F sx = V::set1f(x.scale[where]);
    F t0, t1;
    if (ZERO) {
      const F b = V::set1f(float(sum));
      t0 = V::fnma(z0, b, V::cvt(V::load(product[0][i])));
      t1 = V::fnma(z1, b, V::cvt(V::load(product[1][i])));
    } else {
      const I b = V::set1(-offset * sum);
      t0 = V::cvt(V::add(V::load(product[0][i]), b));
      t1 = V::cvt(V::add(V::load(product[1][i]), b));
    }
    float *to = y + (m0 + i) * y_stride;
    V::storef(to, V::fma(t0, V::mul(s0, sx), V::loadf(to)));
    V::storef(to + 16, V::fma(t1, V::mul(s1, sx), V::loadf(to + 16)));
  }
}

template <int SEG, bool ZERO>
void multiply_slab(Scratch &scratch, int64_t first, int64_t last, int32_t offset, const Activations &x, int64_t m, float *y,
                   int64_t y_stride) {
  for (int64_t m0 = 0; m0 < m; m0 += 2 * TOKENS) {
    const int a = int(m - m0 < TOKENS ? m - m0 : TOKENS), b = int(m - m0 - a < TOKENS ? m - m0 - a : TOKENS);
    configure(a, b ? b : 1, SEG);
    const int8_t *q = x.q + m0 * x.stride + first * BLOCK;
    const uint8_t *codes = scratch.slab.codes;
    int at = 0;
    for (int64_t block = first; block < last; block++)
      for (int g = 0; g < BLOCK / SEG; g++, at++, q += SEG, codes += SEG / 4 * CHUNK) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_loadd(6, codes, CHUNK);
        _tile_loadd(7, codes + 64, CHUNK);
        _tile_loadd(4, q, x.stride);
        _tile_dpbsud(0, 4, 6);
        _tile_dpbsud(1, 4, 7);
        if (b) {
          _tile_zero(2);
          _tile_zero(3);
          _tile_loadd(5, q + TOKENS * x.stride, x.stride);
          _tile_dpbsud(2, 5, 6);
          _tile_dpbsud(3, 5, 7);
        }
        _tile_stored(0, scratch.product[0], 64);
        _tile_stored(1, scratch.product[1], 64);
        if (b) {
          _tile_stored(2, scratch.product[2], 64);
          _tile_stored(3, scratch.product[3], 64);
        }
        const int sum_at = SUM_AT<SEG> + g;
        add_products<ZERO>(scratch.product, scratch.slab, at, sum_at, offset, x, block, m0, a, y, y_stride);
        if (b) add_products<ZERO>(scratch.product + 2, scratch.slab, at, sum_at, offset, x, block, m0 + TOKENS, b, y, y_stride);
      }
  }
}

void gemm_amx(const nw_matrix &w, int64_t tile, const Activations &x, int64_t m, float *y, int64_t y_stride, void *memory) {
  Scratch &scratch = *static_cast<Scratch *>(memory);
  const int64_t blocks = padded_k(w) / BLOCK;
  const bool zero = w.zero != NW_ZERO_CONST;
  const int32_t offset = w.kind == NW_E2M1 ? E2M1_OFFSET : zero ? 0 : w.offset;
  const int seg = segment_columns(w);
  for (int64_t i = 0; i < m; i++)
    for (int v = 0; v < VECTORS; v++) V::storef(y + i * y_stride + v * V::LANES, V::zerof());
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
