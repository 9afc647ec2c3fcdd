// What every instruction set provides, and what the parts of the core share. No code here is compiled with special flags.
#pragma once
#include <cstddef>
#include <cstdint>

#include "netweight.h"

namespace nw {

constexpr int TILE = NW_TILE, BLOCK = NW_BLOCK, QUAD = 16;  // a quad: 16 columns, 4 chunks of 4 columns
constexpr int SUMS = 8;                                      // sums kept for each block of activations
constexpr int SMALL_BATCH = 8;                              // most rows of x that the GEMV kernels take at once
constexpr int GROUP = 32;                                   // rows of x that Ops::arrange puts together

inline int64_t round_up(int64_t value, int64_t to) { return (value + to - 1) / to * to; }
inline int64_t tiles(const nw_matrix &w) { return round_up(w.n, TILE) / TILE; }

// A unit: the columns after which the layout repeats. One block, or one group where that is wider.
inline int unit_columns(const nw_matrix &w) { return w.group == 128 ? 128 : BLOCK; }
inline int64_t padded_k(const nw_matrix &w) { return round_up(w.k, unit_columns(w)); }
inline int64_t activation_k(int64_t k) { return round_up(k, 2 * BLOCK); }  // serves every unit

inline int scale_bytes(int scale) {
  constexpr int bytes[] = {0, 2, 1, 1, 1, 4};
  return bytes[scale];
}
inline int zero_bytes(int zero) { return zero == NW_ZERO_U8 ? 1 : zero == NW_ZERO_F16 ? 2 : 0; }
inline int groups_in_unit(const nw_matrix &w) { return w.group == 0 ? 0 : unit_columns(w) / w.group; }
inline int block_code_bytes(int kind) {  // of TILE rows x BLOCK columns
  constexpr int bits[] = {2, 3, 4, 8, 4, 8};
  return TILE * BLOCK * bits[kind] / 8;
}
inline int64_t header_bytes(const nw_matrix &w) {  // scales, then zeros, of one unit
  return int64_t(groups_in_unit(w)) * TILE * (scale_bytes(w.scale) + zero_bytes(w.zero));
}
inline int64_t unit_bytes(const nw_matrix &w) { return header_bytes(w) + int64_t(unit_columns(w) / BLOCK) * block_code_bytes(w.kind); }
inline int64_t tile_bytes(const nw_matrix &w) { return padded_k(w) / unit_columns(w) * unit_bytes(w); }

// Activations of m rows, quantized. Rows are `stride` bytes apart, a multiple of 2 * BLOCK; columns beyond k are 0.
struct Activations {
  const int8_t *q;
  const float *scale;  // (m, stride / BLOCK)
  const int32_t *sum;  // (m, stride / BLOCK, 8): of q over each 16 columns (4), each 32 (2), all 64, and an unused one
  const float *float_sum;  // the same
  int64_t stride;
  const uint8_t *groups;  // all of it once more, as Ops::arrange has put it; or null
};

// One level. Every function works on rows of x and on tiles of 32 outputs, each tile by itself, so that threads can share the
// tiles and their number cannot change a bit.
struct Ops {
  const char *name;
  // y (m, 32 (last - first)) = W[first … last] x, for m <= SMALL_BATCH
  void (*gemv)(const nw_matrix &w, int64_t first, int64_t last, const Activations &x, int m, float *y, int64_t y_stride);
  // any m; scratch of gemm_scratch() bytes, 64-byte aligned
  void (*gemm)(const nw_matrix &w, int64_t tile, const Activations &x, int64_t m, float *y, int64_t y_stride, void *scratch);
  int64_t (*gemm_scratch)(const nw_matrix &w, int64_t m);
  // What `gemm` reads instead of rows: GROUP rows of x together, in group_bytes() bytes; null where it reads rows.
  int64_t (*group_bytes)(int64_t stride);
  void (*arrange)(const Activations &x, int64_t m, int64_t group, uint8_t *to);
  // float activations, any m
  void (*exact)(const nw_matrix &w, int64_t tile, const float *x, int64_t m, int64_t x_stride, float *y, int64_t y_stride);
  // one row of x: blocks with a scale each, or, with levels, one scale for all; false when it holds NaN or infinity
  bool (*quantize)(const float *x, int64_t k, int64_t stride, int levels, int8_t *q, float *scale, int32_t *sum, float *float_sum);
  int64_t (*read)(const uint8_t *data, int64_t bytes, int streams);
  int64_t (*multiply)(int64_t rounds);
  // a model's other operations
  void (*rms_norm)(const float *x, const float *weight, int64_t n, float eps, float *y);
  void (*layer_norm)(const float *x, const float *weight, const float *bias, int64_t n, float eps, float *y);
  void (*gate)(int activation, const float *gate, const float *up, int64_t n, float *y);  // up may be null
  void (*add)(float *x, const float *y, int64_t n);
  void (*attend)(const struct AttentionTask &task, float *scratch);
  void (*store_half)(const float *x, int64_t n, uint16_t *y, int64_t y_stride);  // every y_stride-th
  void (*float_rows)(const void *weight, int type, int64_t k, int64_t begin, int64_t end, const float *x, int64_t m,
                     int64_t x_stride, float *y, int64_t y_stride);
  const struct Rounding *rounding;  // round.hpp; null where there is none
};

enum Activation { SILU = 0, GELU_TANH = 1, GELU = 2, RELU = 3 };
enum FloatType { F32 = 0, F16 = 1, BF16 = 2 };

// Queries of some heads that read one key/value head. Keys lie as (positions / KEYS, head_dim, KEYS), values as (positions,
// head_dim), in float16. Query i of a head sees positions 0 … first + i.
constexpr int KEYS = 32;
constexpr int ATTENDING = 8;  // rows of queries that are looked at together, at most
struct AttentionTask {
  const float *q;  // query (i, h): q + i * q_stride + h * head_dim
  float *out;      // the same layout, its own stride
  int64_t q_stride, out_stride;
  const uint16_t *keys, *values;
  int queries, heads, head_dim;
  int64_t first;
  float scale;
};

const Ops *portable_ops();
const Ops *avx2_ops();
const Ops *avxvnni_ops();
const Ops *avx512_ops();
const Ops *amx_ops();
const Ops *neon_ops();

const Ops &ops();  // the level in use

}  // namespace nw
