// A decoder-only transformer, one pass over all its blocks for some further tokens of one or several texts.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <new>
#include <vector>

#include "core.hpp"
#include "half.hpp"
#include "pool.hpp"

struct nw_session {
  int64_t capacity = 0, length = 0, bytes = 0;
  nw::Arena memory;
  uint16_t *keys = nullptr, *values = nullptr;  // (blocks, kv_heads, …), see AttentionTask
};

namespace nw {
namespace {

struct Row {  // one token on its way through the model
  int32_t text;
  int64_t position;
};

// Floats whose rows begin where cache lines do, if their length allows it. What was there is lost when they grow.
class Floats {
 public:
  void resize(int64_t count) { held_ = static_cast<float *>(arena_.bytes(count * 4)); }
  float *data() { return held_; }

 private:
  Arena arena_;
  float *held_ = nullptr;
};

struct Workspace {
  Floats x, h, q, k, v, mixed, gate, up;
  Quantized activations;
};

class Pass {
 public:
  Pass(const nw_decoder &decoder, nw_session *const *sessions, const int32_t *counts, int32_t texts, Workspace &space)
      : d_(decoder), sessions_(sessions), counts_(counts), texts_(texts), space_(space) {
    for (int32_t text = 0; text < texts; text++)
      for (int32_t i = 0; i < counts[text]; i++) rows_.push_back({text, sessions[text]->length + i});
  }

  int run(const int32_t *tokens, float *logits, bool all);

 private:
  int64_t rows() const { return int64_t(rows_.size()); }
  void embed(const int32_t *tokens);
  bool block(const nw_decoder_block &block, int index);
  bool attention(const nw_decoder_block &block, int index);
  bool mlp(const nw_decoder_block &block);
  void norm(const float *weight, const float *bias);
  bool multiply(const nw_layer *const *layers, int count, const float *x, int64_t m, float *const *y);
  void place_keys(int index, float *q, int64_t q_stride, float *k, float *v, int64_t kv_stride);
  void attend(int index, const float *q, int64_t q_stride);

  template <class Each> void each_row(Each each) {  // few rows are not worth waking anybody
    const auto part = [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; i++) each(i);
    };
    if (rows() < 8)
      part(0, rows());
    else
      share(rows(), part);
  }

  const nw_decoder &d_;
  nw_session *const *sessions_;
  const int32_t *counts_;
  const int32_t texts_;
  Workspace &space_;
  std::vector<Row> rows_;
};

void plain_row(const nw_layer &layer, int64_t row, float *out) {
  const int64_t from = row * layer.k;
  for (int64_t i = 0; i < layer.k; i++) {
    if (layer.plain_type == F32) {
      out[i] = static_cast<const float *>(layer.plain)[from + i];
    } else {
      const uint16_t bits = static_cast<const uint16_t *>(layer.plain)[from + i];
      out[i] = layer.plain_type == F16 ? from_half(bits) : from_bits(uint32_t(bits) << 16);
    }
  }
}

void Pass::embed(const int32_t *tokens) {
  space_.x.resize(rows() * d_.hidden);
  each_row([&](int64_t i) {
    float *x = space_.x.data() + i * d_.hidden;
    if (d_.embedding.packed)
      decode_row(*d_.embedding.packed, tokens[i], x);
    else
      plain_row(d_.embedding, tokens[i], x);
    if (d_.positions) ops().add(x, d_.positions + rows_[size_t(i)].position * d_.hidden, d_.hidden);
  });
}

void Pass::norm(const float *weight, const float *bias) {
  space_.h.resize(rows() * d_.hidden);
  each_row([&](int64_t i) {
    const float *x = space_.x.data() + i * d_.hidden;
    float *h = space_.h.data() + i * d_.hidden;
    if (d_.norm == 0)
      ops().rms_norm(x, weight, d_.hidden, d_.norm_eps, h);
    else
      ops().layer_norm(x, weight, bias, d_.hidden, d_.norm_eps, h);
  });
}

// Layers that read the same x: the packed ones together, then the plain ones.
bool Pass::multiply(const nw_layer *const *layers, int count, const float *x, int64_t m, float *const *y) {
  Product items[4];
  int packed = 0;
  for (int i = 0; i < count; i++)
    if (layers[i]->packed) items[packed++] = {layers[i]->packed, layers[i]->bias, y[i], layers[i]->n};
  const int64_t k = layers[0]->k;
  if (packed && !products(items, packed, x, m, k, d_.exact != 0, space_.activations)) return false;
  for (int i = 0; i < count; i++) {
    const nw_layer &layer = *layers[i];
    if (layer.packed) continue;
    constexpr int64_t PART = 16;
    share((layer.n + PART - 1) / PART, [&](int64_t begin, int64_t end) {
      const int64_t last = std::min<int64_t>(end * PART, layer.n);
      ops().float_rows(layer.plain, layer.plain_type, k, begin * PART, last, x, m, k, y[i], layer.n);
      if (layer.bias)
        for (int64_t row = 0; row < m; row++)
          for (int64_t o = begin * PART; o < last; o++) y[i][row * layer.n + o] += layer.bias[o];
    });
  }
  return true;
}

void rotate(float *x, int heads, int head_dim, const float *cos, const float *sin) {
  const int half = head_dim / 2;
  for (int head = 0; head < heads; head++, x += head_dim)
    for (int i = 0; i < half; i++) {
      const float a = x[i], b = x[i + half];
      x[i] = a * cos[i] - b * sin[i];
      x[i + half] = b * cos[i] + a * sin[i];
    }
}

void Pass::place_keys(int index, float *q, int64_t q_stride, float *k, float *v, int64_t kv_stride) {
  const int head_dim = d_.head_dim;
  each_row([&](int64_t i) {
    const Row &row = rows_[size_t(i)];
    nw_session &session = *sessions_[row.text];
    if (d_.rotary_cos) {
      const float *cos = d_.rotary_cos + row.position * (head_dim / 2), *sin = d_.rotary_sin + row.position * (head_dim / 2);
      rotate(q + i * q_stride, d_.heads, head_dim, cos, sin);
      rotate(k + i * kv_stride, d_.kv_heads, head_dim, cos, sin);
    }
    for (int head = 0; head < d_.kv_heads; head++) {
      const int64_t at = (int64_t(index) * d_.kv_heads + head) * session.capacity * head_dim;
      uint16_t *keys = session.keys + at + row.position / KEYS * KEYS * head_dim + row.position % KEYS;
      ops().store_half(k + i * kv_stride + head * head_dim, head_dim, keys, KEYS);
      ops().store_half(v + i * kv_stride + head * head_dim, head_dim, session.values + at + row.position * head_dim, 1);
    }
  });
}

void Pass::attend(int index, const float *q, int64_t q_stride) {
  constexpr int QUERIES = 8;
  const int group = d_.heads / d_.kv_heads, head_dim = d_.head_dim;
  std::vector<AttentionTask> tasks;
  int64_t first_row = 0, longest = 0;
  for (int32_t text = 0; text < texts_; text++) {
    const nw_session &session = *sessions_[text];
    longest = std::max(longest, session.length + counts_[text]);
    for (int32_t from = 0; from < counts_[text]; from += QUERIES)
      for (int head = 0; head < d_.kv_heads; head++) {
        const int64_t row = first_row + from, at = (int64_t(index) * d_.kv_heads + head) * session.capacity * head_dim;
        AttentionTask task;
        task.q = q + row * q_stride + int64_t(head) * group * head_dim;
        task.out = space_.mixed.data() + row * d_.heads * head_dim + int64_t(head) * group * head_dim;
        task.q_stride = q_stride;
        task.out_stride = int64_t(d_.heads) * head_dim;
        task.keys = session.keys + at;
        task.values = session.values + at;
        task.queries = std::min(QUERIES, counts_[text] - from);
        task.heads = group;
        task.head_dim = head_dim;
        task.first = session.length + from;
        task.scale = d_.attention_scale;
        tasks.push_back(task);
      }
    first_row += counts_[text];
  }
  const int64_t scratch = ATTENDING * round_up(longest, KEYS);
  share(int64_t(tasks.size()), [&](int64_t begin, int64_t end) {
    static thread_local Arena arena;
    float *scores = static_cast<float *>(arena.bytes(scratch * 4));
    for (int64_t i = begin; i < end; i++) ops().attend(tasks[size_t(i)], scores);
  });
}

bool Pass::attention(const nw_decoder_block &block, int index) {
  const int64_t m = rows(), q_width = int64_t(d_.heads) * d_.head_dim, kv_width = int64_t(d_.kv_heads) * d_.head_dim;
  norm(block.attention_norm, block.attention_norm_bias);
  const bool fused = block.k.n == 0;
  const int64_t q_stride = fused ? q_width + 2 * kv_width : q_width, kv_stride = fused ? q_stride : kv_width;
  space_.q.resize(m * q_stride);
  space_.k.resize(fused ? 0 : m * kv_width);
  space_.v.resize(fused ? 0 : m * kv_width);
  space_.mixed.resize(m * q_width);
  float *q = space_.q.data(), *k = fused ? q + q_width : space_.k.data(), *v = fused ? k + kv_width : space_.v.data();
  const nw_layer *layers[3] = {&block.q, &block.k, &block.v};
  float *const y[3] = {q, k, v};
  if (!multiply(layers, fused ? 1 : 3, space_.h.data(), m, y)) return false;
  place_keys(index, q, q_stride, k, v, kv_stride);
  attend(index, q, q_stride);
  const nw_layer *out[1] = {&block.o};
  float *const to[1] = {space_.h.data()};
  if (!multiply(out, 1, space_.mixed.data(), m, to)) return false;
  each_row([&](int64_t i) { ops().add(space_.x.data() + i * d_.hidden, space_.h.data() + i * d_.hidden, d_.hidden); });
  return true;
}

bool Pass::mlp(const nw_decoder_block &block) {
  const int64_t m = rows(), width = block.up.n;
  norm(block.mlp_norm, block.mlp_norm_bias);
  const bool gated = block.gate.n != 0;
  space_.up.resize(m * width);
  space_.gate.resize(gated ? m * width : 0);
  const nw_layer *layers[2] = {&block.up, &block.gate};
  float *const y[2] = {space_.up.data(), space_.gate.data()};
  if (!multiply(layers, gated ? 2 : 1, space_.h.data(), m, y)) return false;
  each_row([&](int64_t i) {
    float *up = space_.up.data() + i * width;
    const float *gate = gated ? space_.gate.data() + i * width : nullptr;
    ops().gate(d_.activation, gated ? gate : up, gated ? up : nullptr, width, up);
  });
  const nw_layer *out[1] = {&block.down};
  float *const to[1] = {space_.h.data()};
  if (!multiply(out, 1, space_.up.data(), m, to)) return false;
  each_row([&](int64_t i) { ops().add(space_.x.data() + i * d_.hidden, space_.h.data() + i * d_.hidden, d_.hidden); });
  return true;
}

int Pass::run(const int32_t *tokens, float *logits, bool all) {
  embed(tokens);
  for (int i = 0; i < d_.blocks; i++)
    if (!attention(d_.block[i], i) || !mlp(d_.block[i])) return NW_NOT_FINITE;
  if (logits) {
    if (!all) {  // only each text's last row goes on
      int64_t from = 0;
      std::vector<Row> last;
      for (int32_t text = 0; text < texts_; text++) {
        from += counts_[text];
        std::memmove(space_.x.data() + int64_t(text) * d_.hidden, space_.x.data() + (from - 1) * d_.hidden, size_t(d_.hidden) * 4);
        last.push_back(rows_[size_t(from - 1)]);
      }
      rows_ = last;
    }
    norm(d_.final_norm, d_.final_norm_bias);
    const nw_layer *head[1] = {&d_.head};
    float *const y[1] = {logits};
    if (!multiply(head, 1, space_.h.data(), rows(), y)) return NW_NOT_FINITE;
  }
  for (int32_t text = 0; text < texts_; text++) sessions_[text]->length += counts_[text];
  return NW_OK;
}

bool fits(const nw_layer &layer, int64_t n, int64_t k) {
  if (layer.n != n || layer.k != k) return false;
  return layer.packed ? known(*layer.packed) && layer.packed->n == n && layer.packed->k == k : layer.plain != nullptr;
}

bool sound(const nw_decoder &d) {
  if (d.hidden < 1 || d.blocks < 1 || d.heads < 1 || d.kv_heads < 1 || d.heads % d.kv_heads || d.vocab < 1) return false;
  if (d.head_dim < 16 || d.head_dim % 16) return false;
  const int64_t q = int64_t(d.heads) * d.head_dim, kv = int64_t(d.kv_heads) * d.head_dim;
  for (int i = 0; i < d.blocks; i++) {
    const nw_decoder_block &b = d.block[i];
    const bool fused = b.k.n == 0;
    if (!fits(b.q, fused ? q + 2 * kv : q, d.hidden)) return false;
    if (!fused && (!fits(b.k, kv, d.hidden) || !fits(b.v, kv, d.hidden))) return false;
    if (!fits(b.o, d.hidden, q) || !fits(b.up, b.up.n, d.hidden) || !fits(b.down, d.hidden, b.up.n)) return false;
    if (b.gate.n && !fits(b.gate, b.up.n, d.hidden)) return false;
  }
  return fits(d.embedding, d.vocab, d.hidden) && fits(d.head, d.vocab, d.hidden);
}

int64_t session_bytes(const nw_decoder &d, int64_t capacity) { return int64_t(d.blocks) * d.kv_heads * capacity * d.head_dim * 4; }

uint64_t mixed_bits(uint64_t x) {  // splitmix64
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
  x = (x ^ x >> 27) * 0x94d049bb133111ebu;
  return x ^ x >> 31;
}

}  // namespace
}  // namespace nw

extern "C" {

nw_session *nw_session_new(const nw_decoder *d, int64_t capacity) {
  if (!nw::sound(*d) || capacity < 1) return nullptr;
  try {
    auto session = std::make_unique<nw_session>();
    session->capacity = nw::round_up(std::min<int64_t>(capacity, d->longest), nw::KEYS);
    session->bytes = nw::session_bytes(*d, session->capacity);
    session->keys = static_cast<uint16_t *>(session->memory.bytes(session->bytes));
    session->values = session->keys + session->bytes / 4;
    std::memset(session->keys, 0, size_t(session->bytes));
    return session.release();
  } catch (const std::bad_alloc &) {
    return nullptr;
  }
}

void nw_session_free(nw_session *session) { delete session; }
int64_t nw_session_length(const nw_session *session) { return session->length; }
int64_t nw_session_bytes(const nw_session *session) { return session->bytes; }

int nw_session_cut(nw_session *session, int64_t length) {
  if (length < 0 || length > session->length) return NW_BAD_SPEC;
  session->length = length;
  return NW_OK;
}

int nw_decode(const nw_decoder *decoder, nw_session *const *sessions, const int32_t *counts, int32_t texts, const int32_t *tokens,
              float *logits, int all) {
  if (!nw::sound(*decoder) || texts < 1) return NW_BAD_SPEC;
  const int32_t *token = tokens;
  for (int32_t text = 0; text < texts; text++) {
    const nw_session &session = *sessions[text];
    if (session.bytes != nw::session_bytes(*decoder, session.capacity)) return NW_BAD_SPEC;  // another model's
    if (counts[text] < 1 || session.length + counts[text] > std::min<int64_t>(session.capacity, decoder->longest)) return NW_BAD_SPEC;
    for (int32_t i = 0; i < counts[text]; i++, token++)
      if (*token < 0 || *token >= decoder->vocab) return NW_BAD_SPEC;
    for (int32_t other = 0; other < text; other++)
      if (sessions[other] == sessions[text]) return NW_BAD_SPEC;
  }
  try {
    static thread_local nw::Workspace space;
    return nw::Pass(*decoder, sessions, counts, texts, space).run(tokens, logits, all != 0);
  } catch (const std::bad_alloc &) {
    return NW_NO_MEMORY;
  }
}

int32_t nw_sample(const float *logits, int32_t vocab, float temperature, uint64_t seed, uint64_t step) {
  int32_t best = 0;
  if (temperature <= 0.0f) {
    for (int32_t i = 1; i < vocab; i++)
      if (logits[i] > logits[best]) best = i;
    return best;
  }
  // the likeliest token after Gumbel noise is a draw from the softmax
  double top = -std::numeric_limits<double>::infinity();
  const uint64_t stream = nw::mixed_bits(nw::mixed_bits(seed) ^ step);
  for (int32_t i = 0; i < vocab; i++) {
    const double uniform = (double(nw::mixed_bits(stream + uint64_t(i)) >> 11) + 0.5) * 0x1p-53;
    const double noisy = double(logits[i]) / temperature - std::log(-std::log(uniform));
    if (noisy > top) top = noisy, best = i;
  }
  return best;
}
}
