// From the stored form of a matrix to the tiles that the kernels read, and single rows back.
#include <atomic>
#include <cstring>
#include <vector>

#include "core.hpp"
#include "half.hpp"
#include "pool.hpp"

namespace nw {

constexpr int CHUNK = TILE * 4;
constexpr int HIGH[8] = {2, 4, 6, 7, 1, 3, 5, 0};  // int3: the bit of the third plane that belongs to each chunk

bool known(const nw_matrix &w) {
  if (w.levels < 0 || w.levels > 127) return false;
  if (w.n < 1 || w.k < 1 || w.kind < NW_INT2 || w.kind > NW_E4M3) return false;
  if (w.group != 0 && w.group != 16 && w.group != 32 && w.group != 64 && w.group != 128) return false;
  if (w.scale < NW_SCALE_NONE || w.scale > NW_SCALE_F32 || (w.scale == NW_SCALE_NONE) != (w.group == 0)) return false;
  if (w.zero < NW_ZERO_CONST || w.zero > NW_ZERO_ROW) return false;
  if (w.zero == NW_ZERO_U8 || w.zero == NW_ZERO_F16 ? w.group == 0 : false) return false;
  const bool grid = w.kind == NW_E2M1 || w.kind == NW_E4M3;
  return !(grid && (w.zero != NW_ZERO_CONST || w.offset != 0)) && w.offset >= 0 && w.offset <= 255;
}

namespace {

// `bits` to a code, eight codes at a time: halves of the word move apart until each code has a byte
template <int BITS>
void unpack_codes(const uint8_t *from, int64_t k, uint8_t *to) {
  constexpr uint64_t FOUR = (1ull << 4 * BITS) - 1, TWO = ((1ull << 2 * BITS) - 1) * 0x0000000100000001ull;
  constexpr uint64_t ONE = ((1ull << BITS) - 1) * 0x0001000100010001ull;
  int64_t i = 0;
  for (; i + 8 <= k; i += 8, from += BITS) {
    uint64_t word = 0;
    std::memcpy(&word, from, BITS);
    word = (word & FOUR) | (word >> 4 * BITS) << 32;
    word = (word & TWO) | (word & TWO << 2 * BITS) << (16 - 2 * BITS);
    word = (word & ONE) | (word & ONE << BITS) << (8 - BITS);
    std::memcpy(to + i, &word, 8);
  }
  for (int at = 0; i < k; i++, at += BITS) {
    uint32_t word = from[at / 8];
    if (at % 8 + BITS > 8) word |= uint32_t(from[at / 8 + 1]) << 8;
    to[i] = uint8_t(word >> at % 8 & ((1u << BITS) - 1));
  }
}

void unpack_ternary(const uint8_t *from, int64_t k, uint8_t *to) {  // base 3, five to a byte
  for (int64_t i = 0; i < k; from++) {
    int rest = *from;
    for (int digit = 0; digit < 5 && i < k; digit++, rest /= 3) to[i++] = uint8_t(rest % 3);
  }
}

// codes of one stored row, one byte each
void unpack_row(const uint8_t *from, int bits, int64_t k, uint8_t *to) {
  switch (bits) {
    case 0: return unpack_ternary(from, k, to);
    case 2: return unpack_codes<2>(from, k, to);
    case 3: return unpack_codes<3>(from, k, to);
    case 4: return unpack_codes<4>(from, k, to);
    case 5: return unpack_codes<5>(from, k, to);
    case 6: return unpack_codes<6>(from, k, to);
    case 7: return unpack_codes<7>(from, k, to);
    default: std::memcpy(to, from, size_t(k));
  }
}

// one block: `plain` holds its 16 chunks, [chunk][row] with four codes to a word
void write_block(int kind, const uint32_t (*plain)[TILE], uint8_t *to) {
  uint32_t out[16 * TILE];
  int words = 0;
  const auto put = [&](auto value) {
    for (int row = 0; row < TILE; row++) out[words++] = value(row);
  };
  switch (kind) {
    case NW_INT4:
    case NW_E2M1:
      for (int c = 0; c < 16; c += 2) put([&](int row) { return plain[c][row] | plain[c + 1][row] << 4; });
      break;
    case NW_INT2:
      for (int c = 0; c < 16; c += 4)
        put([&](int row) { return plain[c][row] | plain[c + 1][row] << 2 | plain[c + 2][row] << 4 | plain[c + 3][row] << 6; });
      break;
    case NW_INT3:
      for (int c = 0; c < 16; c += 8) {
        for (int half = 0; half < 8; half += 4)
          put([&](int row) {
            uint32_t word = 0;
            for (int i = 0; i < 4; i++) word |= (plain[c + half + i][row] & 0x03030303u) << 2 * i;
            return word;
          });
        put([&](int row) {
          uint32_t word = 0;
          for (int i = 0; i < 8; i++) word |= (plain[c + i][row] >> 2 & 0x01010101u) << HIGH[i];
          return word;
        });
      }
      break;
    default:
      for (int c = 0; c < 16; c++) put([&](int row) { return plain[c][row]; });
  }
  std::memcpy(to, out, size_t(words) * 4);
}

uint8_t read_code(int kind, const uint8_t *block, int row, int column) {
  const int chunk = column / 4, at = row * 4 + column % 4;
  switch (kind) {
    case NW_INT4:
    case NW_E2M1: return uint8_t(block[chunk / 2 * CHUNK + at] >> 4 * (chunk % 2) & 15);
    case NW_INT2: return uint8_t(block[chunk / 4 * CHUNK + at] >> 2 * (chunk % 4) & 3);
    case NW_INT3: {
      const uint8_t *pair = block + chunk / 8 * 3 * CHUNK + at;
      const int low = pair[chunk % 8 / 4 * CHUNK] >> 2 * (chunk % 4) & 3, high = pair[2 * CHUNK] >> HIGH[chunk % 8] & 1;
      return uint8_t(low | high << 2);
    }
    default: return block[chunk * CHUNK + at];
  }
}

bool good_scale(int kind, const void *scales, int64_t at) {
  if (kind == NW_SCALE_F16) {
    uint16_t bits;
    std::memcpy(&bits, static_cast<const uint8_t *>(scales) + 2 * at, 2);
    return (bits & 0x7c00) != 0x7c00;
  }
  if (kind == NW_SCALE_F32) {
    uint32_t bits;
    std::memcpy(&bits, static_cast<const uint8_t *>(scales) + 4 * at, 4);
    return (bits & 0x7f800000u) != 0x7f800000u;
  }
  const uint8_t code = static_cast<const uint8_t *>(scales)[at];
  if (kind == NW_SCALE_E4M3) return code < 0x7f;
  return kind != NW_SCALE_E8M0 || code != 0xff;
}

int pack_tile(const nw_matrix &w, const nw_stored &stored, int64_t tile, uint8_t *to) {
  const int64_t k = padded_k(w), columns = unit_columns(w);
  const int groups = groups_in_unit(w), rows = int(w.n - tile * TILE < TILE ? w.n - tile * TILE : TILE);
  std::vector<uint8_t> codes(size_t(k * TILE), 0);
  for (int row = 0; row < rows; row++) {
    uint8_t *line = codes.data() + row * k;
    unpack_row(stored.codes + (tile * TILE + row) * stored.row_bytes, stored.bits, w.k, line);
    if (w.kind == NW_E4M3)
      for (int64_t i = 0; i < w.k; i++)
        if ((line[i] & 0x7f) == 0x7f) return NW_BAD_CODE;
  }
  for (int64_t unit = 0; unit < k / columns; unit++) {
    uint8_t *scales = to, *zeros = scales + groups * TILE * scale_bytes(w.scale);
    uint8_t *block = zeros + groups * TILE * zero_bytes(w.zero);
    std::memset(to, 0, size_t(block - to));
    for (int g = 0; g < groups; g++) {
      const int64_t column = unit * columns + int64_t(g) * w.group;
      if (column >= w.k) continue;
      for (int row = 0; row < rows; row++) {
        const int64_t from = (tile * TILE + row) / stored.rows * stored.scale_stride + (stored.group ? column / stored.group : 0);
        if (!good_scale(w.scale, stored.scales, from)) return NW_BAD_SCALE;
        const int sb = scale_bytes(w.scale), zb = zero_bytes(w.zero);
        std::memcpy(scales + (g * TILE + row) * sb, static_cast<const uint8_t *>(stored.scales) + from * sb, size_t(sb));
        if (!zb) continue;
        if (zb == 2 && !good_scale(NW_SCALE_F16, stored.zeros, from)) return NW_BAD_SCALE;
        std::memcpy(zeros + (g * TILE + row) * zb, stored.zeros + from * zb, size_t(zb));
      }
    }
    for (int64_t b = 0; b < columns / BLOCK; b++, block += block_code_bytes(w.kind)) {
      uint32_t plain[16][TILE];
      for (int chunk = 0; chunk < 16; chunk++)
        for (int row = 0; row < TILE; row++)
          std::memcpy(&plain[chunk][row], codes.data() + row * k + unit * columns + b * BLOCK + chunk * 4, 4);
      write_block(w.kind, plain, block);
    }
    to = block;
  }
  return NW_OK;
}

float scale_value(int kind, const uint8_t *at, int index) {
  switch (kind) {
    case NW_SCALE_F16: {
      uint16_t bits;
      std::memcpy(&bits, at + 2 * index, 2);
      return from_half(bits);
    }
    case NW_SCALE_U8: return float(at[index]);
    case NW_SCALE_E4M3: return from_half(uint16_t(at[index] << 7));  // value / 256: row_scale holds the rest
    case NW_SCALE_E8M0: return from_e8m0(at[index]);
    case NW_SCALE_F32: {
      float value;
      std::memcpy(&value, at + 4 * index, 4);
      return value;
    }
    default: return 1.0f;
  }
}

}  // namespace

void decode_row(const nw_matrix &w, int64_t row, float *out) {
  static constexpr float E2M1[8] = {0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f};
  const int64_t tile = row / TILE, columns = unit_columns(w);
  const int lane = int(row % TILE), groups = groups_in_unit(w);
  const uint8_t *unit = w.data + tile * tile_bytes(w);
  // E2M1 scales are for doubled values, as the kernels count them
  for (int64_t from = 0; from < w.k; from += columns, unit += unit_bytes(w)) {
    const uint8_t *zeros = unit + groups * TILE * scale_bytes(w.scale), *codes = zeros + groups * TILE * zero_bytes(w.zero);
    const int64_t left = w.k - from < columns ? w.k - from : columns;
    for (int64_t i = 0; i < left; i++) {
      const int g = w.group ? int(i / w.group) : 0;
      const uint8_t code = read_code(w.kind, codes + i / BLOCK * block_code_bytes(w.kind), lane, int(i % BLOCK));
      float value = float(code);
      if (w.kind == NW_E2M1) value = (code & 8 ? -2.0f : 2.0f) * E2M1[code & 7];
      if (w.kind == NW_E4M3) value = from_e4m3(code);
      switch (w.zero) {
        case NW_ZERO_U8: value -= float(zeros[g * TILE + lane]); break;
        case NW_ZERO_F16: value -= scale_value(NW_SCALE_F16, zeros, g * TILE + lane); break;
        case NW_ZERO_ROW: value -= w.row_zero[row]; break;
        default: value -= float(w.offset);
      }
      out[from + i] = value * scale_value(w.scale, unit, g * TILE + lane) * w.row_scale[row];
    }
  }
}

}  // namespace nw

extern "C" {

int64_t nw_packed_bytes(const nw_matrix *w) { return nw::known(*w) ? nw::tiles(*w) * nw::tile_bytes(*w) : int64_t(NW_BAD_SPEC); }

int nw_pack(const nw_matrix *matrix, const nw_stored *stored, uint8_t *data) {
  const nw_matrix &w = *matrix;
  if (!nw::known(w) || stored->rows < 1 || (stored->group && w.group && stored->group % w.group)) return NW_BAD_SPEC;
  if (stored->bits < 0 || stored->bits > 8 || stored->bits == 1) return NW_BAD_SPEC;
  std::atomic<int> status{NW_OK};
  nw::share(nw::tiles(w), [&](int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; tile++)
      if (const int found = nw::pack_tile(w, *stored, tile, data + tile * nw::tile_bytes(w))) status = found;
  });
  return status;
}

int nw_rows(const nw_matrix *matrix, const int64_t *rows, int64_t count, float *out, int64_t out_stride) {
  if (!nw::known(*matrix)) return NW_BAD_SPEC;
  for (int64_t i = 0; i < count; i++)
    if (rows[i] < 0 || rows[i] >= matrix->n) return NW_BAD_SPEC;
  nw::share(count, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) nw::decode_row(*matrix, rows[i], out + i * out_stride);
  });
  return NW_OK;
}
}
