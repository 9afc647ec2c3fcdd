// The kernels against plain sums in double, in a program of its own: for CPUs that only an emulator has, and for sanitizers.
// Weights come from nw_rows and activations from nw_quantize, both written one value at a time. Exit status 0: all within bounds.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "netweight.h"

namespace {

uint64_t state = 1;
uint32_t draw() {  // xorshift64*
  state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
  return uint32_t(state * 2685821657736338717u >> 32);
}
float normal() {
  float sum = 0;
  for (int i = 0; i < 6; i++) sum += float(draw()) / 4294967296.0f - 0.5f;
  return sum;
}

struct Case {
  int kind, scale, zero, offset, group, bits;
};

// Random codes and scales that every format allows; true when all products are within their bounds.
bool check(const Case &c, int n, int k, int m, bool exact, int levels) {
  const int groups = c.group ? (k + c.group - 1) / c.group : 1, padded = (n + NW_TILE - 1) / NW_TILE * NW_TILE;
  const int64_t row_bytes = (int64_t(k) * c.bits + 7) / 8 + 1;
  std::vector<uint8_t> codes(size_t(n * row_bytes));
  for (uint8_t &byte : codes) byte = uint8_t(draw());
  if (c.kind == NW_E4M3)
    for (uint8_t &byte : codes) byte = uint8_t((byte & 0x7f) == 0x7f ? 0 : byte);
  const int width = c.scale == NW_SCALE_F32 ? 4 : c.scale == NW_SCALE_F16 ? 2 : 1;
  std::vector<uint8_t> scales(size_t(n * groups * width)), zeros(size_t(n * groups * 2));
  for (int i = 0; i < n * groups; i++) {
    const uint16_t half = uint16_t(0x2000 + draw() % 0x1000);
    const float wide = 0.01f + float(draw() % 100) / 1000.0f;
    if (width == 2) std::memcpy(&scales[size_t(2 * i)], &half, 2);
    if (width == 4) std::memcpy(&scales[size_t(4 * i)], &wide, 4);
    if (width == 1) scales[size_t(i)] = uint8_t(c.scale == NW_SCALE_E8M0 ? 118 + draw() % 10 : c.scale == NW_SCALE_E4M3 ? draw() % 0x7f : draw() % 256);
    const uint16_t zero_half = uint16_t(0x3c00 + draw() % 0x800);
    if (c.zero == NW_ZERO_U8) zeros[size_t(i)] = uint8_t(draw() % (1u << (c.bits > 4 ? 8 : c.bits)));
    if (c.zero == NW_ZERO_F16) std::memcpy(&zeros[size_t(2 * i)], &zero_half, 2);
  }
  std::vector<float> row_scale(size_t(padded), 0.0f), row_zero(size_t(padded), 0.0f);
  for (int i = 0; i < n; i++) row_scale[size_t(i)] = 0.5f + float(draw() % 100) / 100.0f, row_zero[size_t(i)] = float(draw() % 200) / 50.0f;
  nw_matrix w = {c.kind, c.scale, c.zero, c.offset, n, k, c.group, levels, nullptr, row_scale.data(), row_zero.data()};
  const int64_t bytes = nw_packed_bytes(&w);
  if (bytes <= 0) return false;
  std::vector<uint8_t> data(static_cast<size_t>(bytes));
  const nw_stored stored = {codes.data(), row_bytes, c.bits, c.group, 1, groups, scales.data(), zeros.data()};
  if (nw_pack(&w, &stored, data.data()) != NW_OK) return false;
  w.data = data.data();

  std::vector<int64_t> index(static_cast<size_t>(n));
  for (int i = 0; i < n; i++) index[size_t(i)] = i;
  std::vector<float> weight(size_t(n) * size_t(k)), x(size_t(m) * size_t(k)), y(size_t(m) * size_t(n));
  if (nw_rows(&w, index.data(), n, weight.data(), k) != NW_OK) return false;
  for (float &value : x) value = normal();
  const int blocks = (k + NW_BLOCK - 1) / NW_BLOCK;
  std::vector<int8_t> q(size_t(m) * size_t(blocks) * NW_BLOCK);
  std::vector<float> xs(size_t(m) * size_t(blocks));
  if (nw_quantize(x.data(), m, k, k, q.data(), xs.data()) != NW_OK) return false;
  if (nw_linear(&w, x.data(), m, k, nullptr, y.data(), n, exact) != NW_OK) return false;
  const bool floats = (exact || c.kind == NW_E4M3) && !levels;
  for (int i = 0; levels && i < m; i++) {  // one scale for the row
    float most = 0;
    for (int j = 0; j < k; j++) most = std::max(most, std::fabs(x[size_t(i) * size_t(k) + size_t(j)]));
    for (int b = 0; b < blocks; b++) xs[size_t(i * blocks + b)] = most / float(levels);
    for (int j = 0; j < k; j++)
      q[size_t(i) * size_t(blocks) * NW_BLOCK + size_t(j)] = int8_t(std::nearbyint(x[size_t(i) * size_t(k) + size_t(j)] * (float(levels) / most)));
  }
  for (int i = 0; i < m; i++)
    for (int o = 0; o < n; o++) {
      double want = 0, size = 0;
      for (int j = 0; j < k; j++) {
        const double eight = double(q[size_t(i) * size_t(blocks) * NW_BLOCK + size_t(j)]) * double(xs[size_t(i * blocks + j / NW_BLOCK)]);
        const double a = floats ? double(x[size_t(i) * size_t(k) + size_t(j)]) : eight;
        want += a * double(weight[size_t(o) * size_t(k) + size_t(j)]);
        size += std::fabs(a) * (std::fabs(double(weight[size_t(o) * size_t(k) + size_t(j)])) + 20.0 * row_scale[size_t(o)]);
      }
      const double bound = (k + 16) * 5.97e-8 * size + 1e-30;
      if (!(std::fabs(double(y[size_t(i) * size_t(n) + size_t(o)]) - want) <= bound)) {
        std::printf("kind %d scale %d zero %d group %d, %d x %d, row %d output %d: %g, wanted %g\n", c.kind, c.scale, c.zero, c.group, n, k, i, o,
                    double(y[size_t(i) * size_t(n) + size_t(o)]), want);
        return false;
      }
    }
  return true;
}

// The grid value nearest to x >= 0; a tie takes the even one of the two. Values stand in the order of their codes.
float nearest(const std::vector<float> &grid, float x) {
  size_t best = 0;
  for (size_t i = 1; i < grid.size(); i++) {
    const double here = std::fabs(double(grid[i]) - double(x)), there = std::fabs(double(grid[best]) - double(x));
    if (here < there || (here == there && i % 2 == 0)) best = i;
  }
  return grid[best];
}

// Blocks of 16 along the middle axis, one value at a time, in the order of operations of the NVFP4 format.
std::vector<float> rounded(const std::vector<float> &x, const nw_rounding &how) {
  const std::vector<float> e2m1 = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
  std::vector<float> e4m3, y(x.size());
  for (int code = 0; code < 127; code++) e4m3.push_back(code < 8 ? std::ldexp(float(code), -9) : std::ldexp(float(8 + code % 8), code / 8 - 10));
  float whole = 0;
  for (float value : x) whole = std::max(whole, std::fabs(value));
  const volatile float level = whole > 0 ? 2688.0f / whole : 1.0f, inverse = 1.0f / level, sixth = level * (1.0f / 6.0f);
  for (int64_t o = 0; o < how.outer; o++)
    for (int64_t first = 0; first < how.length; first += 16)
      for (int64_t i = 0; i < how.inner; i++) {
        const int64_t last = std::min(first + 16, how.length);
        const auto at = [&](int64_t j) { return size_t((o * how.length + j) * how.inner + i); };
        float most = 0;
        for (int64_t j = first; j < last; j++) most = std::max(most, std::fabs(x[at(j)]));
        const volatile float wanted = std::min(most * sixth, 448.0f);
        const float scale = nearest(e4m3, wanted);
        const volatile float step = scale * inverse, multiplier = scale > 0 ? 1.0f / step : 0.0f;
        for (int64_t j = first; j < last; j++) {
          const volatile float units = std::min(std::fabs(x[at(j)]) * multiplier, 6.0f);
          const volatile float product = nearest(e2m1, units) * scale;
          y[at(j)] = std::copysign(product / level, x[at(j)]);
        }
      }
  return y;
}

// Against single values, and, where blocks are turned, drawn, square or chosen, against the plainest level. 0: all equal.
int rounding_differs(const std::string &level) {
  const int64_t shapes[][3] = {{5, 64, 1}, {3, 27, 1}, {1, 40, 64}, {2, 33, 17}, {2, 16, 3}, {4, 130, 9}};
  int differ = 0;
  for (const auto &shape : shapes)
    for (int option = 0; option < 10; option++) {
      nw_rounding how = {shape[0], 1, 1, shape[1], shape[2], 1, 77, option == 9, 1, option % 2, option / 4 % 2, option / 2 % 2 ? 0xa5c3 : -1, 1.0f};
      if (option == 8) how.rows = how.outer, how.outer = 1, how.row_block = 16, how.signs = -1;
      if (option == 9) how.rule = 0;
      std::vector<float> x(size_t(shape[0] * shape[1] * shape[2])), y(x.size()), plain(x.size());
      for (float &value : x) value = normal() * std::exp(3 * normal());
      nw_set_isa("portable");
      int bad = nw_round_blocks(&how, x.data(), plain.data()) != 0;
      if (option == 0) bad |= rounded(x, how) != plain;
      nw_set_isa(level.c_str());
      bad |= nw_round_blocks(&how, x.data(), y.data()) != 0 || std::memcmp(y.data(), plain.data(), 4 * y.size()) != 0;
      if (bad) std::printf("rounding (%d, %d, %d), option %d differs at %s\n", int(shape[0]), int(shape[1]), int(shape[2]), option, level.c_str());
      differ += bad;
    }
  return differ;
}

// The values of a small float from 0 up, in the order of its codes.
std::vector<float> magnitudes(int mantissa_bits, int min_exponent, float high) {
  std::vector<float> all;
  const int steps = 1 << mantissa_bits;
  for (int code = 0;; code++) {
    const float value = code < steps ? std::ldexp(float(code), min_exponent - mantissa_bits)
                                     : std::ldexp(float(steps + code % steps), min_exponent - mantissa_bits + code / steps - 1);
    if (value > high) return all;
    all.push_back(value);
  }
}

// Groups whose scales are given: to the nearest by search; draws take a neighbour, and the same one at every level. 0: all right.
int scaling_differs(const std::string &level) {
  const int64_t shapes[][4] = {{5, 64, 1, 64}, {3, 27, 1, 16}, {1, 40, 64, 7}, {2, 33, 17, 16}, {1, 20001, 1, 20001}, {2, 9, 3, 1}};
  const int kinds[][2] = {{-1, 0}, {3, -6}, {2, -14}, {1, 0}};
  const float ends[][2] = {{-128, 127}, {-448, 448}, {-57344, 57344}, {-6, 6}};
  int differ = 0;
  for (const auto &shape : shapes)
    for (int option = 0; option < 8; option++) {
      const int kind = option / 2;
      const float low = ends[kind][0], high = ends[kind][1];
      const nw_scaling how = {shape[0], shape[1], shape[2], shape[3], 77, option % 2, kinds[kind][0], kinds[kind][1], low, high};
      const int64_t groups = (how.length + how.width - 1) / how.width;
      std::vector<float> x(size_t(how.outer * how.length * how.inner)), y(x.size()), plain(x.size()), scale(size_t(how.outer * groups * how.inner));
      for (float &value : x) value = normal() * std::exp(3 * normal());
      for (float &value : scale) value = std::exp(normal()) / high;
      scale[0] = 0;
      const std::vector<float> grid = how.mantissa_bits < 0 ? std::vector<float>() : magnitudes(how.mantissa_bits, how.min_exponent, high);
      nw_set_isa("portable");
      int bad = nw_round_scaled(&how, x.data(), scale.data(), plain.data()) != 0;
      nw_set_isa(level.c_str());
      bad |= nw_round_scaled(&how, x.data(), scale.data(), y.data()) != 0 || std::memcmp(y.data(), plain.data(), 4 * y.size()) != 0;
      for (int64_t at = 0; at < int64_t(x.size()); at++) {
        const int64_t inner = at % how.inner, along = at / how.inner % how.length, line = at / how.inner / how.length;
        const float s = scale[size_t((line * groups + along / how.width) * how.inner + inner)];
        const volatile float quotient = s > 0 ? x[size_t(at)] / s : 0.0f;
        const float units = quotient, held = std::max(low, std::min(high, units));
        float wanted, step;
        if (how.mantissa_bits < 0) {
          wanted = std::nearbyint(held), step = 1;
        } else {
          wanted = std::copysign(nearest(grid, std::fabs(held)), units);
          step = std::ldexp(1.0f, std::max(std::ilogb(std::max(std::fabs(held), 1e-30f)), how.min_exponent) - how.mantissa_bits);
        }
        if (how.stochastic)
          bad |= std::fabs(double(y[size_t(at)]) - double(held) * s) > double(step) * s * (1 + 1e-5);
        else
          bad |= y[size_t(at)] != wanted * s;
      }
      if (bad) std::printf("scaling (%d, %d, %d, %d), option %d differs at %s\n", int(shape[0]), int(shape[1]), int(shape[2]), int(shape[3]), option, level.c_str());
      differ += bad;
    }
  return differ;
}

}  // namespace

int main() {
  const Case cases[] = {
      {NW_INT2, NW_SCALE_F16, NW_ZERO_U8, 0, 64, 2},      {NW_INT2, NW_SCALE_F16, NW_ZERO_CONST, 1, 32, 2},
      {NW_INT2, NW_SCALE_U8, NW_ZERO_U8, 0, 16, 2},       {NW_INT3, NW_SCALE_F16, NW_ZERO_U8, 0, 64, 3},
      {NW_INT3, NW_SCALE_U8, NW_ZERO_CONST, 4, 32, 3},    {NW_INT3, NW_SCALE_F16, NW_ZERO_F16, 0, 16, 3},
      {NW_INT4, NW_SCALE_F16, NW_ZERO_U8, 0, 64, 4},      {NW_INT4, NW_SCALE_F16, NW_ZERO_CONST, 8, 128, 4},
      {NW_INT4, NW_SCALE_NONE, NW_ZERO_ROW, 0, 0, 4},     {NW_INT8, NW_SCALE_F16, NW_ZERO_U8, 0, 64, 8},
      {NW_INT8, NW_SCALE_NONE, NW_ZERO_CONST, 128, 0, 8}, {NW_INT8, NW_SCALE_F16, NW_ZERO_CONST, 16, 32, 5},
      {NW_E2M1, NW_SCALE_E4M3, NW_ZERO_CONST, 0, 16, 4},  {NW_E2M1, NW_SCALE_E8M0, NW_ZERO_CONST, 0, 32, 4},
      {NW_E2M1, NW_SCALE_F32, NW_ZERO_CONST, 0, 64, 4},   {NW_E4M3, NW_SCALE_F32, NW_ZERO_CONST, 0, 64, 8},
  };
  const int shapes[][2] = {{1, 16}, {31, 48}, {33, 65}, {64, 192}, {96, 576}};
  int done = 0, failed = 0;
  std::string levels = nw_isa_levels();
  for (size_t at = 0; at <= levels.size();) {
    const size_t end = std::min(levels.find(' ', at), levels.size());
    const std::string level = levels.substr(at, end - at);
    at = end + 1;
    nw_set_isa(level.c_str());
    for (int threads = 1; threads <= 2; threads++) {
      nw_set_threads(threads);
      for (const Case &c : cases)
        for (const auto &shape : shapes)
          for (int m : {1, 2, 3, 5, 8, 9, 13, 33})
            for (bool exact : {false, true}) {
              const int some[] = {0, 127, 7, 0, 1};
              if (!check(c, shape[0], shape[1], m, exact, some[done++ % 5])) failed++;
            }
      failed += rounding_differs(level);
      failed += scaling_differs(level);
      done += 60;
    }
    std::printf("%s: %d checks so far, %d failed\n", level.c_str(), done, failed);
  }
  nw_set_threads(1);
  return failed ? 1 : 0;
}
