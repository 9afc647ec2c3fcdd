// What a language model does between its matrices. Included after kernels.inl, in the same namespace. Loops are written so
// that a compiler turns them into vector code; sums run in a fixed order.

INLINE float bits_to_float(uint32_t bits) {
  float value;
  std::memcpy(&value, &bits, 4);
  return value;
}

// exp to about 1e-7 of its value, 0 below -87; x must not be above 88
INLINE float exponential(float x) {
  const float kept = x < -87.0f ? -87.0f : x;
  const float shifted = kept * 1.44269504088896341f + 12582912.0f;  // rounds to a whole number of halvings or doublings
  uint32_t whole;
  std::memcpy(&whole, &shifted, 4);
  const float n = shifted - 12582912.0f;
  const float r = (kept - n * 0.693145751953125f) - n * 1.42860682030941723e-6f;
  float p = 1.3888889e-3f;
  p = p * r + 8.3333333e-3f;
  p = p * r + 4.1666667e-2f;
  p = p * r + 1.6666667e-1f;
  p = p * r + 0.5f;
  p = p * r + 1.0f;
  p = p * r + 1.0f;
  const float value = p * bits_to_float((whole - 0x4b400000u + 127u) << 23);
  return x < -87.0f ? 0.0f : value;
}

INLINE float sum_of(const float *x, int64_t n) {
  F a[2] = {V::zerof(), V::zerof()};
  const F one = V::set1f(1.0f);
  int64_t i = 0;
  for (; i + 2 * V::LANES <= n; i += 2 * V::LANES)
    for (int j = 0; j < 2; j++) a[j] = V::fma(V::loadf(x + i + j * V::LANES), one, a[j]);
  float total = V::sum(V::fma(a[0], one, a[1]));
  for (; i < n; i++) total += x[i];
  return total;
}

INLINE float max_of(const float *x, int64_t n) {
  constexpr int WIDE = 2 * V::LANES;
  float top[WIDE];
  for (int j = 0; j < WIDE; j++) top[j] = -INFINITY;
  int64_t i = 0;
  for (; i + WIDE <= n; i += WIDE)
    for (int j = 0; j < WIDE; j++) top[j] = x[i + j] > top[j] ? x[i + j] : top[j];
  for (int j = 0; i + j < n; j++) top[j] = x[i + j] > top[j] ? x[i + j] : top[j];
  for (int j = 1; j < WIDE; j++) top[0] = top[j] > top[0] ? top[j] : top[0];
  return top[0];
}

INLINE float dot_of(const float *x, const float *y, int64_t n) {
  F a[4] = {V::zerof(), V::zerof(), V::zerof(), V::zerof()};
  const F one = V::set1f(1.0f);
  int64_t i = 0;
  for (; i + 4 * V::LANES <= n; i += 4 * V::LANES)
    for (int j = 0; j < 4; j++) a[j] = V::fma(V::loadf(x + i + j * V::LANES), V::loadf(y + i + j * V::LANES), a[j]);
  for (; i + V::LANES <= n; i += V::LANES) a[0] = V::fma(V::loadf(x + i), V::loadf(y + i), a[0]);
  float total = V::sum(V::fma(V::fma(a[0], one, a[1]), one, V::fma(a[2], one, a[3])));
  for (; i < n; i++) total += x[i] * y[i];
  return total;
}

void rms_norm(const float *x, const float *weight, int64_t n, float eps, float *y) {
  const float scale = 1.0f / std::sqrt(dot_of(x, x, n) / float(n) + eps);
  for (int64_t i = 0; i < n; i++) y[i] = weight[i] * (x[i] * scale);
}

void layer_norm(const float *x, const float *weight, const float *bias, int64_t n, float eps, float *y) {
  const float mean = sum_of(x, n) / float(n);
  for (int64_t i = 0; i < n; i++) y[i] = x[i] - mean;
  const float scale = 1.0f / std::sqrt(dot_of(y, y, n) / float(n) + eps);
  for (int64_t i = 0; i < n; i++) y[i] = y[i] * scale * weight[i] + bias[i];
}

INLINE float silu(float x) { return x / (1.0f + exponential(x < -80.0f ? 80.0f : -x)); }

INLINE float gelu_tanh(float x) {  // x * sigmoid(2 u), the same as x / 2 * (1 + tanh(u))
  const float twice = 1.5957691216057308f * (x + 0.044715f * x * x * x);
  return x / (1.0f + exponential(twice < -80.0f ? 80.0f : -twice));
}

template <class Function> INLINE void gate_with(Function function, const float *gate, const float *up, int64_t n, float *y) {
  if (up)
    for (int64_t i = 0; i < n; i++) y[i] = function(gate[i]) * up[i];
  else
    for (int64_t i = 0; i < n; i++) y[i] = function(gate[i]);
}

void gate_rows(int activation, const float *gate, const float *up, int64_t n, float *y) {
  switch (activation) {
    case SILU: return gate_with([](float x) { return silu(x); }, gate, up, n, y);
    case GELU_TANH: return gate_with([](float x) { return gelu_tanh(x); }, gate, up, n, y);
    case GELU: return gate_with([](float x) { return 0.5f * x * (1.0f + std::erf(x * 0.70710678f)); }, gate, up, n, y);
    default: return gate_with([](float x) { return x > 0.0f ? x : 0.0f; }, gate, up, n, y);
  }
}

void add_rows(float *x, const float *y, int64_t n) {
  for (int64_t i = 0; i < n; i++) x[i] += y[i];
}

void store_half(const float *x, int64_t n, uint16_t *y, int64_t y_stride) {
  for (int64_t i = 0; i < n; i += V::LANES) {
    alignas(64) float in[V::LANES] = {};
    alignas(64) uint16_t out[V::LANES];
    const int64_t count = n - i < V::LANES ? n - i : V::LANES;
    std::memcpy(in, x + i, size_t(count) * 4);
    V::to_half(in, out);
    for (int64_t j = 0; j < count; j++) y[(i + j) * y_stride] = out[j];
  }
}

// scores (R, T) of R rows of q against T keys; writes up to the end of the last block of keys
template <int R>
INLINE void scores_of(const AttentionTask &task, const float *const q[], int64_t keys, float *scores, int64_t stride) {
  for (int64_t t = 0; t < keys; t += 2 * V::LANES) {
    F a[R][2];
    for (int r = 0; r < R; r++) a[r][0] = a[r][1] = V::zerof();
    const uint16_t *k = task.keys + t / KEYS * KEYS * task.head_dim + t % KEYS;
    for (int d = 0; d < task.head_dim; d++, k += KEYS) {
      const F k0 = V::half((const uint8_t *)k), k1 = V::half((const uint8_t *)(k + V::LANES));
      for (int r = 0; r < R; r++) {
        const F b = V::set1f(q[r][d]);
        a[r][0] = V::fma(k0, b, a[r][0]);
        a[r][1] = V::fma(k1, b, a[r][1]);
      }
    }
    for (int r = 0; r < R; r++) {
      V::storef(scores + r * stride + t, a[r][0]);
      V::storef(scores + r * stride + t + V::LANES, a[r][1]);
    }
  }
}

// out (R, head_dim) = weights (R, T) values (T, head_dim)
template <int R>
INLINE void mix_of(const AttentionTask &task, const float *weights, int64_t stride, int64_t keys, const float scale[],
                   float *const out[]) {
  for (int d = 0; d < task.head_dim; d += 2 * V::LANES) {
    const bool two = d + V::LANES < task.head_dim;
    F a[R][2];
    for (int r = 0; r < R; r++) a[r][0] = a[r][1] = V::zerof();
    const uint16_t *v = task.values + d;
    for (int64_t t = 0; t < keys; t++, v += task.head_dim) {
      const F v0 = V::half((const uint8_t *)v), v1 = two ? V::half((const uint8_t *)(v + V::LANES)) : V::zerof();
      for (int r = 0; r < R; r++) {
        const F b = V::set1f(weights[r * stride + t]);
        a[r][0] = V::fma(v0, b, a[r][0]);
        a[r][1] = V::fma(v1, b, a[r][1]);
      }
    }
    for (int r = 0; r < R; r++) {
      V::storef(out[r] + d, V::mul(a[r][0], V::set1f(scale[r])));
      if (two) V::storef(out[r] + d + V::LANES, V::mul(a[r][1], V::set1f(scale[r])));
    }
  }
}

template <int R> void attend_rows(const AttentionTask &task, int first_row, float *scratch) {
  const float *q[R];
  float *out[R], scale[R];
  int64_t seen[R], most = 0;
  for (int r = 0; r < R; r++) {
    const int query = (first_row + r) / task.heads, head = (first_row + r) % task.heads;
    q[r] = task.q + query * task.q_stride + head * task.head_dim;
    out[r] = task.out + query * task.out_stride + head * task.head_dim;
    seen[r] = task.first + query + 1;
    most = seen[r] > most ? seen[r] : most;
  }
  const int64_t stride = round_up(most, KEYS);
  scores_of<R>(task, q, most, scratch, stride);
  for (int r = 0; r < R; r++) {
    float *row = scratch + r * stride;
    const float top = max_of(row, seen[r]);
    for (int64_t t = 0; t < seen[r]; t++) row[t] = exponential((row[t] - top) * task.scale);
    for (int64_t t = seen[r]; t < most; t++) row[t] = 0.0f;
    scale[r] = 1.0f / sum_of(row, seen[r]);
  }
  mix_of<R>(task, scratch, stride, most, scale, out);
}

// scratch: ATTENDING x (positions seen, rounded up to KEYS) floats
void attend(const AttentionTask &task, float *scratch) {
  constexpr int MOST = V::LANES == 16 ? ATTENDING : 4;  // as many as leave the sums in registers
  const int rows = task.queries * task.heads;
  int row = 0;
  for (; row + MOST <= rows; row += MOST) attend_rows<MOST>(task, row, scratch);
  for (; row + 4 <= rows; row += 4) attend_rows<4>(task, row, scratch);
  switch (rows - row) {
    case 3: return attend_rows<3>(task, row, scratch);
    case 2: return attend_rows<2>(task, row, scratch);
    case 1: return attend_rows<1>(task, row, scratch);
  }
}

// y (m, begin … end) = x (m, k) W^T for weights that are stored as they are used, row-major
void float_rows(const void *weight, int type, int64_t k, int64_t begin, int64_t end, const float *x, int64_t m, int64_t x_stride,
                float *y, int64_t y_stride) {
  constexpr int64_t STEP = 512;
  alignas(64) float part[STEP];
  for (int64_t row = begin; row < end; row++) {
    for (int64_t i = 0; i < m; i++) y[i * y_stride + row] = 0.0f;
    for (int64_t from = 0; from < k; from += STEP) {
      const int64_t n = k - from < STEP ? k - from : STEP;
      const float *w = part;
      if (type == F32) {
        w = static_cast<const float *>(weight) + row * k + from;
      } else if (type == BF16) {
        const uint16_t *held = static_cast<const uint16_t *>(weight) + row * k + from;
        for (int64_t i = 0; i < n; i++) part[i] = bits_to_float(uint32_t(held[i]) << 16);
      } else {
        const uint16_t *held = static_cast<const uint16_t *>(weight) + row * k + from;
        alignas(64) uint16_t last[V::LANES] = {};
        for (int64_t i = 0; i < n; i += V::LANES) {
          const int64_t count = n - i < V::LANES ? n - i : V::LANES;
          if (count < V::LANES) std::memcpy(last, held + i, size_t(count) * 2);
          alignas(64) float out[V::LANES];
          V::storef(out, V::half((const uint8_t *)(count < V::LANES ? last : held + i)));
          std::memcpy(part + i, out, size_t(count) * 4);
        }
      }
      for (int64_t i = 0; i < m; i++) y[i * y_stride + row] += dot_of(w, x + i * x_stride + from, n);
    }
  }
}
