// The matrix kernels, written once over a vector type V. Each instruction set's file includes this inside a namespace of its
// own, after V, so that no two files share a symbol that was compiled with different flags.
//
// Layout. A tile is 32 rows; a chunk is 32 rows x 4 columns, so that a 32-bit lane holds 4 neighbouring columns of one row and
// a dot product of bytes needs no sum across lanes. A quad is 4 chunks (16 columns), a block 4 quads. Codes of a block:
//   int8  chunk after chunk (128 bytes each)
//   int4, e2m1  byte = chunk 0 | chunk 1 << 4, then the next two
//   int2  byte = chunk 0 | chunk 1 << 2 | chunk 2 << 4 | chunk 3 << 6
//   int3  two quads together: the low two bits of each as in int2, then one plane of high bits, bit HIGH[chunk] of each byte
// Before the codes of a unit lie the scales, then the zeros, [group][32 rows].
//
// V: LANES 32-bit lanes; I, F; load, store, loadf, storef, set1, set1f, zero, zerof, and_, srl<n>, sll<n> (16-bit),
// select(mask, a, b) = b with a's bits where mask is set, broadcast (4 bytes of x), dot (u8 up to 31 times s8), dot_full (any u8),
// cvt, nearest (even), larger, largest (unsigned), narrow (low bytes), fma, mul, fnma (c - a * b), e2m1_low, e2m1_high (table
// 12 + 2 * value), half, u8, e4m3, e8m0 (LANES scales).
// V::WIDE: `dot` takes any u8, so that codes need not be shifted down before they are multiplied.

using I = V::I;
using F = V::F;
constexpr int VECTORS = TILE / V::LANES, VECTOR_BYTES = 4 * V::LANES, CHUNK = TILE * 4;
constexpr int E2M1_OFFSET = 12;
constexpr int STREAMS = 8;   // tiles read side by side
constexpr int AHEAD = 1024;  // bytes: how early each stream asks for what it reads

// Asks for `bytes` of a stream that will be read after the next AHEAD bytes. A processor's own prefetching stops at the end of each
// page, and a small matrix has few pages. Addresses behind the end do no harm.
INLINE void fetch_ahead(const uint8_t *from, int64_t bytes) {
  for (int64_t i = 0; i < bytes; i += 64) prefetch(from + i + AHEAD);
}

template <int KIND> constexpr int BLOCK_BYTES = TILE *BLOCK *(KIND == NW_INT2 ? 2 : KIND == NW_INT3 ? 3 : KIND == NW_INT8 ? 8 : 4) / 8;

// Four vectors of plain codes (as bytes) of one quad; `at` is the vector's offset in a chunk.
template <int KIND> INLINE void quad_codes(const uint8_t *block, int quad, int at, I c[4]) {
  if constexpr (KIND == NW_INT8) {
    for (int i = 0; i < 4; i++) c[i] = V::load(block + quad * 4 * CHUNK + i * CHUNK + at);
  } else if constexpr (KIND == NW_INT4) {
    const I low = V::set1(0x0f0f0f0f);
    for (int i = 0; i < 2; i++) {
      const I v = V::load(block + (quad * 2 + i) * CHUNK + at);
      c[2 * i] = V::and_(v, low);
      c[2 * i + 1] = V::and_(V::template srl<4>(v), low);
    }
  } else if constexpr (KIND == NW_E2M1) {
    for (int i = 0; i < 2; i++) {
      const I v = V::load(block + (quad * 2 + i) * CHUNK + at);
      c[2 * i] = V::e2m1_low(v);
      c[2 * i + 1] = V::e2m1_high(v);
    }
  } else if constexpr (KIND == NW_INT2) {
    const I low = V::set1(0x03030303);
    const I v = V::load(block + quad * CHUNK + at);
    c[0] = V::and_(v, low);
    c[1] = V::and_(V::template srl<2>(v), low);
    c[2] = V::and_(V::template srl<4>(v), low);
    c[3] = V::and_(V::template srl<6>(v), low);
  } else {
    static_assert(KIND == NW_INT3);
    const I two = V::set1(0x03030303), three = V::set1(0x07070707);
    const uint8_t *pair = block + quad / 2 * 3 * CHUNK + at;
    const I v = V::load(pair + quad % 2 * CHUNK), h = V::load(pair + 2 * CHUNK);
    const auto join = [&](I low, I high) { return V::and_(V::select(two, low, high), three); };
    if (quad % 2 == 0) {
      c[0] = join(v, h);
      c[1] = join(V::template srl<2>(v), V::template srl<2>(h));
      c[2] = join(V::template srl<4>(v), V::template srl<4>(h));
      c[3] = join(V::template srl<6>(v), V::template srl<5>(h));
    } else {
      c[0] = join(v, V::template sll<1>(h));
      c[1] = join(V::template srl<2>(v), V::template srl<1>(h));
      c[2] = join(V::template srl<4>(v), V::template srl<3>(h));
      c[3] = join(V::template srl<6>(v), V::template sll<2>(h));
    }
  }
}

// One quad times x without shifting codes down: chunk i counts 2^SHIFT[i] fold in accumulator i.
template <int KIND> INLINE void quad_unshifted(const uint8_t *block, int quad, int at, const int8_t *x, I a[4]) {
  if constexpr (KIND == NW_INT2) {
    const I v = V::load(block + quad * CHUNK + at);
    a[0] = V::dot(a[0], V::and_(v, V::set1(0x03030303)), V::broadcast(x));
    a[1] = V::dot(a[1], V::and_(v, V::set1(0x0c0c0c0c)), V::broadcast(x + 4));
    a[2] = V::dot(a[2], V::and_(v, V::set1(0x30303030)), V::broadcast(x + 8));
    a[3] = V::dot(a[3], V::and_(v, V::set1(int(0xc0c0c0c0))), V::broadcast(x + 12));
  } else if constexpr (KIND == NW_INT4) {
    for (int i = 0; i < 2; i++) {
      const I v = V::load(block + (quad * 2 + i) * CHUNK + at);
      a[0] = V::dot(a[0], V::and_(v, V::set1(0x0f0f0f0f)), V::broadcast(x + 8 * i));
      a[1] = V::dot(a[1], V::and_(v, V::set1(int(0xf0f0f0f0))), V::broadcast(x + 8 * i + 4));
    }
  } else if constexpr (KIND == NW_INT3) {
    const uint8_t *pair = block + quad / 2 * 3 * CHUNK + at;
    const I v = V::load(pair + quad % 2 * CHUNK), h = V::load(pair + 2 * CHUNK);
    const I near = quad % 2 == 0 ? h : V::template sll<1>(h), last = quad % 2 == 0 ? h : V::template sll<7>(h);
    const auto term = [&](I sum, I low, I high, int two, int three, int column) {
      return V::dot(sum, V::and_(V::select(V::set1(two), low, high), V::set1(three)), V::broadcast(x + column));
    };
    a[0] = term(a[0], v, near, 0x03030303, 0x07070707, 0);
    a[1] = term(a[1], v, near, 0x0c0c0c0c, 0x1c1c1c1c, 4);
    a[2] = term(a[2], v, near, 0x30303030, 0x70707070, 8);
    a[3] = term(a[3], V::template srl<1>(v), last, 0x60606060, int(0xe0e0e0e0), 12);
  } else {  // already plain: two accumulators, so that one does not wait for the other
    I c[4];
    quad_codes<KIND>(block, quad, at, c);
    for (int i = 0; i < 4; i++) a[i % 2] = V::dot(a[i % 2], c[i], V::broadcast(x + 4 * i));
  }
}

template <int KIND> INLINE I fold(const I a[4]) {
  if constexpr (KIND == NW_INT2)
    return V::add(V::add(a[0], V::template sra32<2>(a[1])), V::add(V::template sra32<4>(a[2]), V::template sra32<6>(a[3])));
  else if constexpr (KIND == NW_INT3)
    return V::add(V::add(a[0], V::template sra32<2>(a[1])), V::add(V::template sra32<4>(a[2]), V::template sra32<5>(a[3])));
  else if constexpr (KIND == NW_INT4)
    return V::add(a[0], V::template sra32<4>(a[1]));
  else
    return V::add(a[0], a[1]);
}

template <int KIND> INLINE I dot(I sum, I codes, const int8_t *x) {
  if constexpr (KIND == NW_INT8)
    return V::dot_full(sum, codes, V::broadcast(x));
  else
    return V::dot(sum, codes, V::broadcast(x));
}

// Codes of SEG columns, from quad `first` of the block on, times one row of x.
template <int KIND, int SEG> INLINE I segment(const uint8_t *block, int first, int at, const int8_t *x, I start) {
  if constexpr (V::WIDE) {
    I a[4] = {start, V::zero(), V::zero(), V::zero()};
#pragma GCC unroll 4
    for (int q = 0; q < SEG / QUAD; q++) quad_unshifted<KIND>(block, first + q, at, x + q * QUAD, a);
    return fold<KIND>(a);
  } else {
#pragma GCC unroll 4
    for (int q = 0; q < SEG / QUAD; q++) {
      I c[4];
      quad_codes<KIND>(block, first + q, at, c);
      for (int i = 0; i < 4; i++) start = dot<KIND>(start, c[i], x + q * QUAD + 4 * i);
    }
    return start;
  }
}

template <int SEG> constexpr int SUM_AT = SEG == 16 ? 0 : SEG == 32 ? 4 : 6;  // where Activations::sum keeps these sums
constexpr int ANY = -1;                                                       // a scale or zero told at run time

template <int S> INLINE F load_scale(int scale, const uint8_t *scales, int row) {
  switch (S == ANY ? scale : S) {
    case NW_SCALE_F16: return V::half(scales + 2 * row);
    case NW_SCALE_U8: return V::u8(scales + row);
    case NW_SCALE_E4M3: return V::e4m3(scales + row);
    case NW_SCALE_E8M0: return V::e8m0(scales + row);
    case NW_SCALE_F32: return V::loadf((const float *)(const void *)(scales + 4 * row));
    default: return V::set1f(1.0f);
  }
}

template <int Z> INLINE F load_zero(const nw_matrix &w, const uint8_t *zeros, int64_t tile, int row) {
  switch (Z == ANY ? w.zero : Z) {
    case NW_ZERO_U8: return V::u8(zeros + row);
    case NW_ZERO_F16: return V::half(zeros + 2 * row);
    case NW_ZERO_ROW: return V::loadf(w.row_zero + tile * TILE + row);
    default: return V::zerof();
  }
}

// y = W[tiles] x for M rows of x and n <= STREAMS tiles, `step` apart. For M = 1 codes stay where they are in their bytes; for more
// they are shifted down once and serve every row. Tiles are read side by side: several streams keep more requests to memory under
// way than one, which on some CPUs is half as fast again.
template <int KIND, int SEG, int M, int S, int Z>
void gemv(const nw_matrix &w, int64_t tile, int64_t step, int n, const Activations &x, int rows, float *y, int64_t y_stride) {
  constexpr int GROUPS = BLOCK / SEG;
  const int scale = S == ANY ? w.scale : S, zero = Z == ANY ? w.zero : Z;
  const int blocks_in_unit = unit_columns(w) / BLOCK, groups = groups_in_unit(w);
  const int scale_group = TILE * scale_bytes(scale), zero_group = TILE * zero_bytes(zero);
  const int64_t units = padded_k(w) / unit_columns(w), a_tile = tile_bytes(w), a_unit = unit_bytes(w);
  const int32_t offset = KIND == NW_E2M1 ? E2M1_OFFSET : zero == NW_ZERO_CONST ? w.offset : 0;
  const uint8_t *at = w.data + tile * a_tile;
  const int8_t *q[M];
  const float *xs[M];
  const int32_t *sums[M];
  const float *float_sums[M];
  for (int m = 0; m < M; m++) {
    const int64_t row = m < rows ? m : rows - 1;
    q[m] = x.q + row * x.stride;
    xs[m] = x.scale + row * (x.stride / BLOCK);
    sums[m] = x.sum + row * (x.stride / BLOCK * SUMS) + SUM_AT<SEG>;
    float_sums[m] = x.float_sum + row * (x.stride / BLOCK * SUMS) + SUM_AT<SEG>;
  }
  alignas(64) float totals[STREAMS][M][TILE] = {};
  int64_t block = 0;
  for (int64_t unit = 0; unit < units; unit++, at += a_unit) {
    for (int b = 0; b < blocks_in_unit; b++, block++) {
      for (int t = 0; t < n; t++) {
        F total[M][VECTORS];
        for (int m = 0; m < M; m++)
          for (int v = 0; v < VECTORS; v++) total[m][v] = V::loadf(totals[t][m] + v * V::LANES);
        const uint8_t *scales = at + t * step * a_tile, *zeros = scales + groups * scale_group;
        const uint8_t *codes = zeros + groups * zero_group + b * BLOCK_BYTES<KIND>;
        const uint8_t *part = b ? codes : scales;
        fetch_ahead(part, codes + BLOCK_BYTES<KIND> - part);
#pragma GCC unroll 4
        for (int g = 0; g < GROUPS; g++) {
#pragma GCC unroll 8
          for (int v = 0; v < VECTORS; v++) {
            F s = V::zerof(), z = V::zerof();
            if (scale != NW_SCALE_NONE) s = load_scale<S>(scale, scales + g * scale_group, v * V::LANES);
            if (zero != NW_ZERO_CONST) z = load_zero<Z>(w, zeros + g * zero_group, tile + t * step, v * V::LANES);
            I a[M];
            if constexpr (M == 1) {
              a[0] = segment<KIND, SEG>(codes, g * (SEG / QUAD), v * VECTOR_BYTES, q[0] + block * BLOCK + g * SEG,
                                        V::set1(-offset * sums[0][block * SUMS + g]));
            } else {
              for (int m = 0; m < M; m++) a[m] = V::set1(-offset * sums[m][block * SUMS + g]);
#pragma GCC unroll 4
              for (int i = 0; i < SEG / QUAD; i++) {
                I c[4];
                quad_codes<KIND>(codes, g * (SEG / QUAD) + i, v * VECTOR_BYTES, c);
                for (int m = 0; m < M; m++)
                  for (int j = 0; j < 4; j++)
                    a[m] = dot<KIND>(a[m], c[j], q[m] + block * BLOCK + g * SEG + i * QUAD + 4 * j);
              }
            }
            for (int m = 0; m < M; m++) {
              F f = V::cvt(a[m]);
              if (zero != NW_ZERO_CONST) f = V::fnma(z, V::set1f(float_sums[m][block * SUMS + g]), f);
              const F sx = V::set1f(xs[m][block]);
              total[m][v] = V::fma(f, scale == NW_SCALE_NONE ? sx : V::mul(s, sx), total[m][v]);
            }
          }
        }
        for (int m = 0; m < M; m++)
          for (int v = 0; v < VECTORS; v++) V::storef(totals[t][m] + v * V::LANES, total[m][v]);
      }
    }
  }
  for (int t = 0; t < n; t++)
    for (int m = 0; m < M && m < rows; m++)
      for (int v = 0; v < VECTORS; v++)
        V::storef(y + m * y_stride + t * step * TILE + v * V::LANES,
                  V::mul(V::loadf(totals[t][m] + v * V::LANES), V::loadf(w.row_scale + (tile + t * step) * TILE + v * V::LANES)));
}

template <int KIND, int SEG>
void gemv_one(const nw_matrix &w, int64_t tile, int64_t step, int n, const Activations &x, float *y) {
#define NW_CASE(S, Z) \
  if (w.scale == S && w.zero == Z) return gemv<KIND, SEG, 1, S, Z>(w, tile, step, n, x, 1, y, 0)
#if !defined(NW_LEAN)
  if constexpr (KIND != NW_E2M1) {
    NW_CASE(NW_SCALE_F16, NW_ZERO_CONST);
    NW_CASE(NW_SCALE_F16, NW_ZERO_U8);
    if constexpr (SEG != 64) NW_CASE(NW_SCALE_U8, NW_ZERO_CONST);
    if constexpr (SEG != 64) NW_CASE(NW_SCALE_U8, NW_ZERO_U8);
  } else if constexpr (SEG == 16) {
    NW_CASE(NW_SCALE_E4M3, NW_ZERO_CONST);
  } else if constexpr (SEG == 32) {
    NW_CASE(NW_SCALE_E8M0, NW_ZERO_CONST);
  }
#endif
#undef NW_CASE
  gemv<KIND, SEG, 1, ANY, ANY>(w, tile, step, n, x, 1, y, 0);
}

// Each stream reads tiles that follow one another, so that its next tile is where the last one ended.
template <int KIND, int SEG>
void gemv_rows(const nw_matrix &w, int64_t first, int64_t last, const Activations &x, int m, float *y, int64_t y_stride) {
  const int64_t step = (last - first + STREAMS - 1) / STREAMS;
  for (int64_t i = 0; i < step; i++, first++, y += TILE) {
    const int n = int((last - first + step - 1) / step);
#if defined(NW_LEAN)
    for (int row = 0; row < m; row++) {
      const int64_t blocks = x.stride / BLOCK;
      Activations one = x;
      one.q += row * x.stride;
      one.scale += row * blocks;
      one.sum += row * blocks * SUMS;
      one.float_sum += row * blocks * SUMS;
      gemv_one<KIND, SEG>(w, first, step, n, one, y + row * y_stride);
    }
#else
    if (m == 1)
      gemv_one<KIND, SEG>(w, first, step, n, x, y);
    else if (m == 2)
      gemv<KIND, SEG, 2, ANY, ANY>(w, first, step, n, x, m, y, y_stride);
    else if (m <= 4)
      gemv<KIND, SEG, 4, ANY, ANY>(w, first, step, n, x, m, y, y_stride);
    else
      gemv<KIND, SEG, 8, ANY, ANY>(w, first, step, n, x, m, y, y_stride);
#endif
  }
}

template <int KIND>
void gemv_kind(const nw_matrix &w, int64_t first, int64_t last, const Activations &x, int m, float *y, int64_t y_stride) {
  if (w.group == 16) return gemv_rows<KIND, 16>(w, first, last, x, m, y, y_stride);
  if (w.group == 32) return gemv_rows<KIND, 32>(w, first, last, x, m, y, y_stride);
  gemv_rows<KIND, 64>(w, first, last, x, m, y, y_stride);
}

[[maybe_unused]] void gemv_any(const nw_matrix &w, int64_t first, int64_t last, const Activations &x, int m, float *y,
                               int64_t y_stride) {
  switch (w.kind) {
    case NW_INT2: return gemv_kind<NW_INT2>(w, first, last, x, m, y, y_stride);
    case NW_INT3: return gemv_kind<NW_INT3>(w, first, last, x, m, y, y_stride);
    case NW_INT4: return gemv_kind<NW_INT4>(w, first, last, x, m, y, y_stride);
    case NW_INT8: return gemv_kind<NW_INT8>(w, first, last, x, m, y, y_stride);
    default: return gemv_kind<NW_E2M1>(w, first, last, x, m, y, y_stride);
  }
}

// ---- many rows of x: some columns of a tile are unpacked to bytes that stay in the first cache, then serve every row ----

constexpr int SLAB_BLOCKS = 8;  // blocks unpacked at a time: 16 KB of codes

struct Slab {
  alignas(64) uint8_t codes[SLAB_BLOCKS * BLOCK * TILE];  // [column / 4][row][4]
  alignas(64) float scale[SLAB_BLOCKS * BLOCK / 16][TILE];
  alignas(64) float zero[SLAB_BLOCKS * BLOCK / 16][TILE];
};

inline int segment_columns(const nw_matrix &w) { return w.group == 16 || w.group == 32 ? w.group : BLOCK; }

template <int KIND> INLINE void unpack_codes(const uint8_t *block, uint8_t *out) {
  for (int quad = 0; quad < BLOCK / QUAD; quad++)
    for (int v = 0; v < VECTORS; v++) {
      I c[4];
      quad_codes<KIND>(block, quad, v * VECTOR_BYTES, c);
      for (int i = 0; i < 4; i++) V::store(out + (quad * 4 + i) * CHUNK + v * VECTOR_BYTES, c[i]);
    }
}

// Blocks first … last of a tile; scales and zeros once per segment.
template <int KIND> void unpack_slab(const nw_matrix &w, int64_t tile, int64_t first, int64_t last, Slab &slab) {
  const int columns = unit_columns(w), seg = segment_columns(w), groups = groups_in_unit(w);
  const int scale_group = TILE * scale_bytes(w.scale), zero_group = TILE * zero_bytes(w.zero);
  const uint8_t *data = w.data + tile * tile_bytes(w);
  for (int64_t block = first; block < last; block++) {
    const int64_t unit = block * BLOCK / columns, within = block - unit * (columns / BLOCK);
    const uint8_t *scales = data + unit * unit_bytes(w), *zeros = scales + groups * scale_group;
    if (within == 0) fetch_ahead(scales, unit_bytes(w));
    unpack_codes<KIND>(zeros + groups * zero_group + within * BLOCK_BYTES<KIND>, slab.codes + (block - first) * BLOCK * TILE);
    for (int s = 0; s < BLOCK / seg; s++) {
      const int64_t to = (block - first) * (BLOCK / seg) + s;
      for (int v = 0; v < VECTORS; v++) {
        V::storef(slab.scale[to] + v * V::LANES, load_scale<ANY>(w.scale, scales + s * scale_group, v * V::LANES));
        V::storef(slab.zero[to] + v * V::LANES, load_zero<ANY>(w, zeros + s * zero_group, tile, v * V::LANES));
      }
    }
  }
}

void unpack_slab_of(const nw_matrix &w, int64_t tile, int64_t first, int64_t last, Slab &slab) {
  switch (w.kind) {
    case NW_INT2: return unpack_slab<NW_INT2>(w, tile, first, last, slab);
    case NW_INT3: return unpack_slab<NW_INT3>(w, tile, first, last, slab);
    case NW_INT4: return unpack_slab<NW_INT4>(w, tile, first, last, slab);
    case NW_INT8: return unpack_slab<NW_INT8>(w, tile, first, last, slab);
    default: return unpack_slab<NW_E2M1>(w, tile, first, last, slab);
  }
}

// y (M, NV vectors) += slab * x, for rows m0 … m0 + M of x and vectors from v0 on.
template <int SEG, int M, int NV, bool FULL, bool ZERO>
INLINE void micro(const Slab &slab, int64_t first, int64_t last, int32_t offset, const Activations &x, int64_t m0, int v0,
                  bool fresh, float *y, int64_t y_stride) {
  F total[M][NV];
  for (int m = 0; m < M; m++)
    for (int v = 0; v < NV; v++) total[m][v] = fresh ? V::zerof() : V::loadf(y + (m0 + m) * y_stride + (v0 + v) * V::LANES);
  const uint8_t *codes = slab.codes + v0 * VECTOR_BYTES;
  int at = 0;
  for (int64_t block = first; block < last; block++) {
    for (int g = 0; g < BLOCK / SEG; g++, at++) {
      I a[M][NV];
      for (int m = 0; m < M; m++) {
        const int32_t sum = ZERO ? 0 : x.sum[((m0 + m) * (x.stride / BLOCK) + block) * SUMS + SUM_AT<SEG> + g];
        for (int v = 0; v < NV; v++) a[m][v] = V::set1(-offset * sum);
      }
      const int8_t *q = x.q + m0 * x.stride + block * BLOCK + g * SEG;
#pragma GCC unroll 4
      for (int k = 0; k < SEG; k += 4, codes += CHUNK) {
        I c[NV];
        for (int v = 0; v < NV; v++) c[v] = V::load(codes + v * VECTOR_BYTES);
        for (int m = 0; m < M; m++) {
          const I b = V::broadcast(q + m * x.stride + k);
          for (int v = 0; v < NV; v++) a[m][v] = FULL ? V::dot_full(a[m][v], c[v], b) : V::dot(a[m][v], c[v], b);
        }
      }
      for (int v = 0; v < NV; v++) {
        const F s = V::loadf(slab.scale[at] + (v0 + v) * V::LANES), z = V::loadf(slab.zero[at] + (v0 + v) * V::LANES);
        for (int m = 0; m < M; m++) {
          F t = V::cvt(a[m][v]);
          if (ZERO) t = V::fnma(z, V::set1f(x.float_sum[((m0 + m) * (x.stride / BLOCK) + block) * SUMS + SUM_AT<SEG> + g]), t);
          total[m][v] = V::fma(t, V::mul(s, V::set1f(x.scale[(m0 + m) * (x.stride / BLOCK) + block])), total[m][v]);
        }
      }
    }
  }
  for (int m = 0; m < M; m++)
    for (int v = 0; v < NV; v++) V::storef(y + (m0 + m) * y_stride + (v0 + v) * V::LANES, total[m][v]);
}

template <int SEG, int M, bool FULL, bool ZERO>
void micro_rows(const Slab &slab, int64_t first, int64_t last, int32_t offset, const Activations &x, int64_t m0, bool fresh,
                float *y, int64_t y_stride) {
  for (int v = 0; v < VECTORS; v += V::GEMM_VECTORS)
    micro<SEG, M, V::GEMM_VECTORS, FULL, ZERO>(slab, first, last, offset, x, m0, v, fresh, y, y_stride);
}

// More than SMALL_BATCH rows of x in groups of at most V::GEMM_ROWS, as even as they go.
template <int SEG, bool FULL, bool ZERO>
void gemm_slab(const Slab &slab, int64_t first, int64_t last, int32_t offset, const Activations &x, int64_t m, bool fresh,
               float *y, int64_t y_stride) {
  constexpr int LEAST = (SMALL_BATCH + 1) / ((SMALL_BATCH + V::GEMM_ROWS) / V::GEMM_ROWS);  // what the fewest rows come in
  const int64_t parts = (m + V::GEMM_ROWS - 1) / V::GEMM_ROWS;
  int64_t m0 = 0;
  for (int64_t part = 0; part < parts; part++) {
    const int rows = int(m / parts + (part < m % parts));
    switch (rows) {
#define NW_ROWS(M) \
  case M: \
    if constexpr (M <= V::GEMM_ROWS && M >= LEAST) micro_rows<SEG, M, FULL, ZERO>(slab, first, last, offset, x, m0, fresh, y, y_stride); \
    break
      NW_ROWS(3);
      NW_ROWS(4);
      NW_ROWS(5);
      NW_ROWS(6);
#undef NW_ROWS
    }
    m0 += rows;
  }
}

template <bool FULL, bool ZERO>
void gemm_segments(const nw_matrix &w, const Slab &slab, int64_t first, int64_t last, const Activations &x, int64_t m, bool fresh,
                   float *y, int64_t y_stride) {
  const int32_t offset = w.kind == NW_E2M1 ? E2M1_OFFSET : w.zero == NW_ZERO_CONST ? w.offset : 0;
  if (segment_columns(w) == 16) return gemm_slab<16, FULL, ZERO>(slab, first, last, offset, x, m, fresh, y, y_stride);
  if (segment_columns(w) == 32) return gemm_slab<32, FULL, ZERO>(slab, first, last, offset, x, m, fresh, y, y_stride);
  gemm_slab<64, FULL, ZERO>(slab, first, last, offset, x, m, fresh, y, y_stride);
}

// y = totals * row_scale; they may be the same
INLINE void finish_rows(const nw_matrix &w, int64_t tile, int64_t m, const float *total, int64_t stride, float *y, int64_t y_stride) {
  F s[VECTORS];
  for (int v = 0; v < VECTORS; v++) s[v] = V::loadf(w.row_scale + tile * TILE + v * V::LANES);
  for (int64_t i = 0; i < m; i++)
    for (int v = 0; v < VECTORS; v++)
      V::storef(y + i * y_stride + v * V::LANES, V::mul(V::loadf(total + i * stride + v * V::LANES), s[v]));
}

// What many rows of x need beside them. Totals lie together: rows of y may lie a power of two apart, which caches do not like.
struct GemmMemory {
  Slab slab;
  alignas(64) float total[1][TILE];  // as many as x has rows
};

[[maybe_unused]] void gemm_tile(const nw_matrix &w, int64_t tile, const Activations &x, int64_t m, float *y, int64_t y_stride,
                                void *scratch) {
  Slab &slab = static_cast<GemmMemory *>(scratch)->slab;
  float *total = static_cast<GemmMemory *>(scratch)->total[0];
  const int64_t blocks = padded_k(w) / BLOCK;
  const bool full = !V::WIDE && w.kind == NW_INT8, zero = w.zero != NW_ZERO_CONST;
  for (int64_t first = 0; first < blocks; first += SLAB_BLOCKS) {
    const int64_t last = first + SLAB_BLOCKS < blocks ? first + SLAB_BLOCKS : blocks;
    unpack_slab_of(w, tile, first, last, slab);
    const bool fresh = first == 0;
    if constexpr (!V::WIDE) {
      if (full && zero) gemm_segments<true, true>(w, slab, first, last, x, m, fresh, total, TILE);
      if (full && !zero) gemm_segments<true, false>(w, slab, first, last, x, m, fresh, total, TILE);
    }
    if (!full && zero) gemm_segments<false, true>(w, slab, first, last, x, m, fresh, total, TILE);
    if (!full && !zero) gemm_segments<false, false>(w, slab, first, last, x, m, fresh, total, TILE);
  }
  finish_rows(w, tile, m, total, TILE, y, y_stride);
}

[[maybe_unused]] int64_t gemm_scratch(const nw_matrix &, int64_t m) { return sizeof(GemmMemory) + m * int64_t(sizeof(float[TILE])); }

// ---- float activations: codes are decoded to float32, block after block, and multiplied as they are ----

INLINE float e4m3_value(uint32_t code) {
  const uint32_t magnitude = code & 0x7f, small = magnitude < 8;  // no exponent: m / 8 * 2^-6
  const uint32_t bits = small ? 0x3c800000u + (magnitude << 20) : (magnitude << 20) + (120u << 23);
  float value;
  std::memcpy(&value, &bits, 4);
  if (small) value -= 0.015625f;
  return code & 0x80 ? -value : value;
}

// values [column][32 rows] of one block: (code - zero) * scale, before the row's scale
INLINE void decode_block(const nw_matrix &w, int64_t tile, int64_t block, Slab &slab, float (*values)[TILE]) {
  const bool e4m3 = w.kind == NW_E4M3;
  nw_matrix as = w;
  if (e4m3) as.kind = NW_INT8;  // the same bytes
  unpack_slab_of(as, tile, block, block + 1, slab);
  const int seg = segment_columns(w);
  const float offset = w.kind == NW_E2M1 ? float(E2M1_OFFSET) : w.zero == NW_ZERO_CONST ? float(w.offset) : 0.0f;
  for (int column = 0; column < BLOCK; column++) {
    const uint8_t *codes = slab.codes + column / 4 * CHUNK + column % 4;
    const float *scale = slab.scale[column / seg], *zero = slab.zero[column / seg];
    for (int row = 0; row < TILE; row++) {
      const float code = e4m3 ? e4m3_value(codes[row * 4]) : float(codes[row * 4]) - offset;
      values[column][row] = (code - zero[row]) * scale[row];
    }
  }
}

[[maybe_unused]] void exact_tile(const nw_matrix &w, int64_t tile, const float *x, int64_t m, int64_t x_stride, float *y, int64_t y_stride) {
  static thread_local Slab slab;
  alignas(64) float values[BLOCK][TILE];
  const int64_t blocks = padded_k(w) / BLOCK;
  for (int64_t i = 0; i < m; i++)
    for (int row = 0; row < TILE; row++) y[i * y_stride + row] = 0.0f;
  for (int64_t block = 0; block < blocks; block++) {
    decode_block(w, tile, block, slab, values);
    const int64_t left = w.k - block * BLOCK, columns = left < BLOCK ? left : BLOCK;
    for (int64_t i = 0; i < m; i++) {
      F total[VECTORS];
      for (int v = 0; v < VECTORS; v++) total[v] = V::loadf(y + i * y_stride + v * V::LANES);
      const float *from = x + i * x_stride + block * BLOCK;
      for (int64_t column = 0; column < columns; column++) {
        const F b = V::set1f(from[column]);
        for (int v = 0; v < VECTORS; v++) total[v] = V::fma(V::loadf(values[column] + v * V::LANES), b, total[v]);
      }
      for (int v = 0; v < VECTORS; v++) V::storef(y + i * y_stride + v * V::LANES, total[v]);
    }
  }
  finish_rows(w, tile, m, y, y_stride, y, y_stride);
}

// ---- activations ----

constexpr float SMALLEST = 1e-36f;  // less counts as zeros: 127 / absmax must not overflow

// Of values whose bits, without the sign, are at most `largest`.
inline float absmax_of(uint32_t largest) {
  float absmax;
  std::memcpy(&absmax, &largest, 4);
  return absmax < SMALLEST ? 0.0f : absmax;
}

// scale = absmax / 127 of each block, q = nearest even. A block of zeros has scale 0. With levels: absmax / levels of the row.
[[maybe_unused]] bool quantize_row(const float *x, int64_t k, int64_t stride, int levels, int8_t *q, float *scale, int32_t *sum,
                                   float *float_sum) {
  const I magnitude = V::set1(0x7fffffff);
  uint32_t wild = 0;
  float of_row = 0.0f;
  if (levels) {
    uint32_t largest = 0;
    for (int64_t i = 0; i < k; i++) {
      uint32_t bits;
      std::memcpy(&bits, x + i, 4);
      largest = std::max(largest, bits & 0x7fffffffu);
    }
    of_row = absmax_of(largest);
  }
  for (int64_t block = 0; block < stride / BLOCK; block++) {
    alignas(64) float part[BLOCK];
    const int64_t left = k - block * BLOCK;
    const float *from = x + block * BLOCK;
    if (left < BLOCK) {
      for (int i = 0; i < BLOCK; i++) part[i] = i < left ? from[i] : 0.0f;
      from = part;
    }
    I most = V::zero();  // magnitudes compare like their bits; NaN and infinity are the largest
    for (int i = 0; i < BLOCK; i += V::LANES) most = V::larger(most, V::and_(V::load(from + i), magnitude));
    const uint32_t largest = V::largest(most);
    wild |= largest >= 0x7f800000u;
    const float absmax = levels ? of_row : absmax_of(largest), most_code = levels ? float(levels) : 127.0f;
    scale[block] = absmax / most_code;
    const F inverse = V::set1f(absmax > 0.0f ? most_code / absmax : 0.0f);
    for (int i = 0; i < BLOCK; i += V::LANES)
      V::narrow(V::nearest(V::mul(V::loadf(from + i), inverse)), q + block * BLOCK + i);
  }
  const I ones = V::set1(0x01010101);
  for (int64_t block = 0; block < stride / BLOCK; block++, sum += SUMS, float_sum += SUMS) {
    alignas(64) int32_t four[BLOCK / 4];
    for (int i = 0; i < BLOCK; i += VECTOR_BYTES) V::store(four + i / 4, V::dot(V::zero(), ones, V::load(q + block * BLOCK + i)));
    for (int i = 0; i < 4; i++) sum[i] = four[4 * i] + four[4 * i + 1] + four[4 * i + 2] + four[4 * i + 3];
    sum[4] = sum[0] + sum[1];
    sum[5] = sum[2] + sum[3];
    sum[6] = sum[4] + sum[5];
    sum[7] = 0;
    for (int i = 0; i < SUMS; i++) float_sum[i] = float(sum[i]);
  }
  return wild == 0;
}

// ---- measuring ----

template <int COUNT> int64_t read_streams(const uint8_t *data, int64_t bytes) {
  constexpr int LINE = 128;
  const int64_t part = bytes / COUNT / LINE * LINE;
  I a[COUNT];
  for (I &sum : a) sum = V::zero();
  for (int64_t i = 0; i < part; i += LINE)
    for (int s = 0; s < COUNT; s++) {
      if (COUNT > 1) fetch_ahead(data + s * part + i, LINE);
      for (int j = 0; j < LINE; j += VECTOR_BYTES) a[s] = V::add(a[s], V::load(data + s * part + i + j));
    }
  for (int s = 1; s < COUNT; s++) a[0] = V::add(a[0], a[s]);
  alignas(64) int32_t lanes[V::LANES];
  V::store(lanes, a[0]);
  int64_t total = 0;
  for (int32_t lane : lanes) total += lane;
  return total;
}

[[maybe_unused]] int64_t read_all(const uint8_t *data, int64_t bytes, int streams) {
  return streams == 1 ? read_streams<1>(data, bytes) : read_streams<STREAMS>(data, bytes);
}

[[maybe_unused]] int64_t multiply(int64_t rounds) {
  constexpr int CHAINS = 12;
  const int8_t ones[4] = {1, 1, 1, 1};
  I a[CHAINS], b = V::broadcast(ones), c = V::set1(0x01010101);
  for (I &chain : a) chain = V::zero();
  for (int64_t i = 0; i < rounds; i++) {
#pragma GCC unroll 12
    for (int j = 0; j < CHAINS; j++) a[j] = V::dot(a[j], c, b);
    V::keep(c);
  }
  for (int j = 1; j < CHAINS; j++) a[0] = V::add(a[0], a[j]);
  alignas(64) int32_t lanes[V::LANES];
  V::store(lanes, a[0]);
  return int64_t(lanes[0]) / 4 * V::LANES * 8;  // each dot: LANES x 4 products and as many sums
}
