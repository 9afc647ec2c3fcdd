// Products as the rest of the core asks for them.
#pragma once
#include <cstdlib>

#include "ops.hpp"

namespace nw {

bool known(const nw_matrix &w);  // whether the kernels can read such a matrix
void decode_row(const nw_matrix &w, int64_t row, float *out);

// Memory that grows and is kept, 64-byte aligned. What it held is lost when it grows.
class Arena {
 public:
  Arena() = default;
  ~Arena() { std::free(held_); }
  Arena(const Arena &) = delete;
  Arena &operator=(const Arena &) = delete;
  void *bytes(int64_t wanted);  // throws std::bad_alloc

 private:
  void *held_ = nullptr;
  int64_t size_ = 0;
};

// Memory for activations, and the act of quantizing them row by row.
struct Quantized {
  Arena arena, floats;
  int8_t *q = nullptr;
  float *scale = nullptr, *float_sum = nullptr;
  int32_t *sum = nullptr;
  uint8_t *groups = nullptr;
  int64_t m = 0, k = 0, stride = 0;
  Activations reserve(int64_t rows, int64_t columns);
  bool row(int64_t i, const float *x, int levels);  // false when x holds NaN or infinity
  void rounded(int64_t i, float *to) const;         // what row i stands for, k columns
  int64_t group_count() const { return groups ? round_up(m, GROUP) / GROUP : 0; }
  void arrange(int64_t group);  // its rows are there
  Activations view() const { return {q, scale, sum, float_sum, stride, groups}; }
};

struct Product {
  const nw_matrix *matrix;
  const float *bias;
  float *y;
  int64_t y_stride;
};

// y = x W^T + bias for every item; all read the same x (m, k). False when x holds NaN or infinity.
bool products(const Product *items, int count, const float *x, int64_t m, int64_t x_stride, bool exact, Quantized &memory);

}  // namespace nw
