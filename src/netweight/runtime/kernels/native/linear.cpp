// Matrix products and convolutions: activations are quantized once, then threads share the tiles.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>

#include "core.hpp"
#include "pool.hpp"

namespace nw {

void *Arena::bytes(int64_t wanted) {
  if (wanted > size_) {
    std::free(held_);
    size_ = round_up(wanted, 4096);
    held_ = std::malloc(size_t(size_) + 64);
    if (!held_) {
      size_ = 0;
      throw std::bad_alloc();
    }
  }
  return reinterpret_cast<void *>(round_up(int64_t(reinterpret_cast<uintptr_t>(held_)), 64));
}

namespace {

thread_local Arena for_activations, for_scratch, for_edges, for_patches, for_conv;

bool finite_row(const float *x, int64_t k) {
  uint32_t largest = 0;
  for (int64_t i = 0; i < k; i++) {
    uint32_t bits;
    std::memcpy(&bits, x + i, 4);
    bits &= 0x7fffffffu;
    largest = std::max(largest, bits);
  }
  return largest < 0x7f800000u;
}

bool needs_exact(const nw_matrix &w, bool exact) { return exact || w.kind == NW_E4M3; }

// Tiles first … last of y. The last may stick out over the last output: then it goes by way of a buffer.
void tile_products(const nw_matrix &w, int64_t first, int64_t last, const Activations &a, const float *x, int64_t x_stride, int64_t m,
                   bool exact, const float *bias, float *y, int64_t y_stride) {
  const auto some = [&](int64_t from, int64_t to, float *out, int64_t stride) {
    if (needs_exact(w, exact)) {
      for (int64_t tile = from; tile < to; tile++) ops().exact(w, tile, x, m, x_stride, out + (tile - from) * TILE, stride);
    } else if (m <= SMALL_BATCH) {
      ops().gemv(w, from, to, a, int(m), out, stride);
    } else {
      void *scratch = for_scratch.bytes(ops().gemm_scratch(w, m));
      for (int64_t tile = from; tile < to; tile++) ops().gemm(w, tile, a, m, out + (tile - from) * TILE, stride, scratch);
    }
  };
  const int64_t whole = std::min(last, int64_t(w.n) / TILE);
  if (first < whole) some(first, whole, y + first * TILE, y_stride);
  if (last > whole) {
    float *edge = static_cast<float *>(for_edges.bytes(m * TILE * 4));
    some(whole, last, edge, TILE);
    for (int64_t i = 0; i < m; i++) std::memcpy(y + i * y_stride + whole * TILE, edge + i * TILE, size_t(w.n - whole * TILE) * 4);
  }
  if (bias) {
    const int64_t end = std::min<int64_t>(last * TILE, w.n);
    for (int64_t i = 0; i < m; i++)
      for (int64_t o = first * TILE; o < end; o++) y[i * y_stride + o] += bias[o];
  }
}

constexpr int64_t MOST_ROWS = 1024;  // rows of x at a time: bounds the memory for activations

}  // namespace

Activations Quantized::reserve(int64_t rows, int64_t columns) {
  m = rows;
  k = columns;
  stride = activation_k(columns);
  const int64_t blocks = stride / BLOCK, q_bytes = round_up(m * stride, 64), scale_bytes = round_up(m * blocks * 4, 64);
  const int64_t sum_bytes = round_up(m * blocks * SUMS * 4, 64), in_groups = m > SMALL_BATCH && ops().arrange ? round_up(m, GROUP) / GROUP : 0;
  uint8_t *at = static_cast<uint8_t *>(
      arena.bytes(q_bytes + scale_bytes + 2 * sum_bytes + (in_groups ? in_groups * ops().group_bytes(stride) : 0)));
  q = reinterpret_cast<int8_t *>(at);
  scale = reinterpret_cast<float *>(at += q_bytes);
  sum = reinterpret_cast<int32_t *>(at += scale_bytes);
  float_sum = reinterpret_cast<float *>(at += sum_bytes);
  groups = in_groups ? at + sum_bytes : nullptr;
  return view();
}

bool Quantized::row(int64_t i, const float *x, int levels) {
  const int64_t blocks = stride / BLOCK;
  const int64_t sums = i * blocks * SUMS;
  return ops().quantize(x, k, stride, levels, q + i * stride, scale + i * blocks, sum + sums, float_sum + sums);
}

void Quantized::rounded(int64_t i, float *to) const {
  for (int64_t j = 0; j < k; j++) to[j] = float(q[i * stride + j]) * scale[i * (stride / BLOCK) + j / BLOCK];
}

void Quantized::arrange(int64_t group) { ops().arrange(view(), m, group, groups + group * ops().group_bytes(stride)); }

bool products(const Product *items, int count, const float *x, int64_t m, int64_t x_stride, bool exact, Quantized &memory) {
  const int64_t k = items[0].matrix->k;
  const int levels = items[0].matrix->levels;
  bool all_exact = true, any_exact = false;
  int64_t total = 0;
  for (int i = 1; i < count; i++)
    if (items[i].matrix->levels != levels) {  // x is another for them
      return products(items, i, x, m, x_stride, exact, memory) && products(items + i, count - i, x, m, x_stride, exact, memory);
    }
  for (int i = 0; i < count; i++) {
    all_exact = all_exact && needs_exact(*items[i].matrix, exact);
    any_exact = any_exact || needs_exact(*items[i].matrix, exact);
    total += tiles(*items[i].matrix);
  }
  for (int64_t done = 0; done < m; done += MOST_ROWS) {
    const int64_t rows = std::min(MOST_ROWS, m - done);
    const float *from = x + done * x_stride;
    int64_t from_stride = x_stride;
    const Activations a = memory.reserve(rows, k);
    float *rounded = levels && any_exact ? static_cast<float *>(memory.floats.bytes(rows * k * 4)) : nullptr;
    std::atomic<bool> finite{true};
    const auto prepare = [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) {
        const float *row = from + i * x_stride;
        if (!(all_exact && !levels ? finite_row(row, k) : memory.row(i, row, levels))) finite = false;
        if (rounded) memory.rounded(i, rounded + i * k);
      }
    };
    if (rows < 8)
      prepare(0, rows);
    else
      share(rows, prepare);
    if (!finite) return false;
    if (rounded) from = rounded, from_stride = k;
    if (!all_exact)
      share(memory.group_count(), [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; i++) memory.arrange(i);
      });
    share(total, [&](int64_t begin, int64_t end) {
      int64_t base = 0;
      for (int item = 0; item < count; item++) {
        const Product &p = items[item];
        const int64_t has = tiles(*p.matrix), first = std::max(begin - base, int64_t(0)), last = std::min(end - base, has);
        if (first < last)
          tile_products(*p.matrix, first, last, a, from, from_stride, rows, exact, p.bias, p.y + done * p.y_stride, p.y_stride);
        base += has;
      }
    });
  }
  return true;
}

namespace {

// (channels, height, width) to (height, width, channels): a tap of the kernel is then one run of memory
void channels_last(const nw_conv &c, const float *image, float *to) {
  const int64_t plane = int64_t(c.height) * c.width;
  constexpr int64_t PART = 256;
  share((plane + PART - 1) / PART, [&](int64_t begin, int64_t end) {
    const int64_t last = std::min(end * PART, plane);
    for (int channel = 0; channel < c.channels; channel++)
      for (int64_t i = begin * PART; i < last; i++) to[i * c.channels + channel] = image[channel * plane + i];
  });
}

// What lies under the kernel at one output pixel: (kernel_h, kernel_w, channels).
void gather_patch(const nw_conv &c, int64_t out_w, const float *image, int64_t pixel, float *to) {
  const int64_t top = pixel / out_w * c.stride_h - c.pad_h, left = pixel % out_w * c.stride_w - c.pad_w;
  for (int i = 0; i < c.kernel_h; i++)
    for (int j = 0; j < c.kernel_w; j++, to += c.channels) {
      const int64_t row = top + int64_t(i) * c.dilation_h, column = left + int64_t(j) * c.dilation_w;
      if (row >= 0 && row < c.height && column >= 0 && column < c.width)
        std::memcpy(to, image + (row * c.width + column) * c.channels, size_t(c.channels) * 4);
      else
        std::memset(to, 0, size_t(c.channels) * 4);
    }
}

struct ConvPart {  // some output pixels of one image
  const nw_matrix &w;
  const nw_conv &c;
  int64_t out_w, pixels;
  const float *image, *bias;
  float *y;
  bool exact;

  bool run(int64_t first, int64_t last) const;
};

bool ConvPart::run(int64_t first, int64_t last) const {
  static thread_local Quantized memory;
  const int64_t m = last - first;
  float *patches = static_cast<float *>(for_patches.bytes(m * w.k * 4));
  const Activations a = memory.reserve(m, w.k);
  bool finite = true;
  for (int64_t i = 0; i < m; i++) {
    float *patch = patches + i * w.k;
    gather_patch(c, out_w, image, first + i, patch);
    finite = (needs_exact(w, exact) ? finite_row(patch, w.k) : memory.row(i, patch, 0)) && finite;
  }
  if (!finite) return false;
  for (int64_t i = 0; i < memory.group_count() && !needs_exact(w, exact); i++) memory.arrange(i);
  float *found = static_cast<float *>(for_conv.bytes(m * TILE * 4));
  for (int64_t tile = 0; tile < tiles(w); tile++) {
    const int outputs = int(std::min<int64_t>(TILE, w.n - tile * TILE));
    nw_matrix one = w;  // the tile alone, so that its outputs land in the buffer
    one.n = outputs;
    one.data = w.data + tile * tile_bytes(w);
    one.row_scale = w.row_scale + tile * TILE;
    one.row_zero = w.row_zero ? w.row_zero + tile * TILE : nullptr;
    tile_products(one, 0, 1, a, patches, w.k, m, exact, bias ? bias + tile * TILE : nullptr, found, TILE);
    float *to = y + tile * TILE * pixels + first;
    for (int o = 0; o < outputs; o++)
      for (int64_t i = 0; i < m; i++) to[o * pixels + i] = found[i * TILE + o];
  }
  return true;
}

}  // namespace
}  // namespace nw

extern "C" {

int nw_linears(const nw_matrix *const *matrices, int count, const float *x, int64_t m, int64_t x_stride, const float *const *biases,
               float *const *y, const int64_t *y_strides, int exact) {
  if (count < 1 || count > 8 || m < 0) return NW_BAD_SPEC;
  nw::Product items[8];
  for (int i = 0; i < count; i++) {
    if (!nw::known(*matrices[i]) || matrices[i]->k != matrices[0]->k) return NW_BAD_SPEC;
    items[i] = {matrices[i], biases ? biases[i] : nullptr, y[i], y_strides[i]};
  }
  try {
    static thread_local nw::Quantized memory;
    return nw::products(items, count, x, m, x_stride, exact != 0, memory) ? NW_OK : NW_NOT_FINITE;
  } catch (const std::bad_alloc &) {
    return NW_NO_MEMORY;
  }
}

int nw_linear(const nw_matrix *matrix, const float *x, int64_t m, int64_t x_stride, const float *bias, float *y, int64_t y_stride,
              int exact) {
  return nw_linears(&matrix, 1, x, m, x_stride, &bias, &y, &y_stride, exact);
}

int nw_quantize(const float *x, int64_t m, int64_t k, int64_t x_stride, int8_t *q, float *scale) {
  try {
    nw::Quantized memory;
    const nw::Activations a = memory.reserve(1, k);
    const int64_t padded = nw::round_up(k, nw::BLOCK);
    for (int64_t i = 0; i < m; i++) {
      if (!memory.row(0, x + i * x_stride, 0)) return NW_NOT_FINITE;
      std::memcpy(q + i * padded, a.q, size_t(padded));
      std::memcpy(scale + i * (padded / nw::BLOCK), a.scale, size_t(padded / nw::BLOCK) * 4);
    }
    return NW_OK;
  } catch (const std::bad_alloc &) {
    return NW_NO_MEMORY;
  }
}

int nw_conv2d(const nw_matrix *matrix, const nw_conv *shape, const float *x, const float *bias, float *y, int exact) {
  const nw_conv &c = *shape;
  if (!nw::known(*matrix) || c.batch < 0 || c.channels < 1 || c.kernel_h < 1 || c.kernel_w < 1 || c.stride_h < 1 || c.stride_w < 1 ||
      c.dilation_h < 1 || c.dilation_w < 1 || c.pad_h < 0 || c.pad_w < 0)
    return NW_BAD_SPEC;
  const int64_t out_h = (c.height + 2 * int64_t(c.pad_h) - int64_t(c.dilation_h) * (c.kernel_h - 1) - 1) / c.stride_h + 1;
  const int64_t out_w = (c.width + 2 * int64_t(c.pad_w) - int64_t(c.dilation_w) * (c.kernel_w - 1) - 1) / c.stride_w + 1;
  if (matrix->k != int64_t(c.channels) * c.kernel_h * c.kernel_w || out_h < 1 || out_w < 1) return NW_BAD_SPEC;
  constexpr int64_t PIXELS = 96;
  const int64_t pixels = out_h * out_w;
  try {
    static thread_local nw::Arena turned;
    float *image = static_cast<float *>(turned.bytes(int64_t(c.channels) * c.height * c.width * 4));
    for (int32_t i = 0; i < c.batch; i++) {
      nw::channels_last(c, x + i * c.x_batch_stride, image);
      const nw::ConvPart part{*matrix, c, out_w, pixels, image, bias, y + i * c.y_batch_stride, exact != 0};
      std::atomic<bool> finite{true};
      nw::share((pixels + PIXELS - 1) / PIXELS, [&](int64_t begin, int64_t end) {
        for (int64_t p = begin; p < end; p++)
          if (!part.run(p * PIXELS, std::min((p + 1) * PIXELS, pixels))) finite = false;
      });
      if (!finite) return NW_NOT_FINITE;
    }
    return NW_OK;
  } catch (const std::bad_alloc &) {
    return NW_NO_MEMORY;
  }
}

int64_t nw_read(const void *data, int64_t bytes, int streams) {
  constexpr int64_t PART = 1 << 20;
  std::atomic<int64_t> total{0};
  nw::share((bytes + PART - 1) / PART, [&](int64_t begin, int64_t end) {
    total += nw::ops().read(static_cast<const uint8_t *>(data) + begin * PART, std::min(end * PART, bytes) - begin * PART, streams);
  });
  return total;
}

int64_t nw_multiply(int64_t rounds) { return nw::ops().multiply(rounds); }
}
