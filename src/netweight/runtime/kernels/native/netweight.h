/* netweight's kernels: a plain C interface, free of torch and of Python.
 *
 * A matrix is (n outputs, k inputs); value(r, c) = (code - zero) * scale * row_scale, see nw_matrix.
 * Functions that can fail return 0 on success and a negative nw_status otherwise.
 */
#ifndef NETWEIGHT_H
#define NETWEIGHT_H
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(_WIN32)
#define NW_API __declspec(dllexport)
#else
#define NW_API __attribute__((visibility("default")))
#endif

#define NW_ABI 3 /* raised whenever a struct or a signature below changes */

/* How codes are held. Integers of other widths and ternary take the next wider one. */
enum nw_kind { NW_INT2 = 0, NW_INT3 = 1, NW_INT4 = 2, NW_INT8 = 3, NW_E2M1 = 4, NW_E4M3 = 5 };
/* Scale of each group: none (row_scale alone), float16, 8-bit whole number, E4M3 (kept as value / 256), E8M0, float32. */
enum nw_scale { NW_SCALE_NONE = 0, NW_SCALE_F16 = 1, NW_SCALE_U8 = 2, NW_SCALE_E4M3 = 3, NW_SCALE_E8M0 = 4, NW_SCALE_F32 = 5 };
/* Zero of each group: the constant `offset`, a code, a float16 in units of a code, or one per row. */
enum nw_zero { NW_ZERO_CONST = 0, NW_ZERO_U8 = 1, NW_ZERO_F16 = 2, NW_ZERO_ROW = 3 };

enum nw_status { NW_OK = 0, NW_BAD_SPEC = -1, NW_BAD_SCALE = -2, NW_BAD_CODE = -3, NW_NO_MEMORY = -4, NW_NOT_FINITE = -5 };

enum { NW_TILE = 32, NW_BLOCK = 64 }; /* rows of a tile; columns that share an activation scale */

typedef struct {
  int32_t kind, scale, zero;
  int32_t offset; /* the zero when zero == NW_ZERO_CONST */
  int32_t n, k;   /* outputs, inputs */
  int32_t group;  /* columns that share a scale: 16, 32, 64 or 128; 0: the whole row */
  int32_t levels; /* x is rounded to whole numbers up to this with a scale per row; 0: it is not, see nw_linear. At most 127 */
  const uint8_t *data;    /* nw_packed_bytes() bytes, written by nw_pack */
  const float *row_scale; /* n rounded up to whole tiles; multiplies everything */
  const float *row_zero;  /* the same length, for NW_ZERO_ROW; else NULL */
} nw_matrix;

/* What nw_pack reads: the stored form of a format, row after row. */
typedef struct {
  const uint8_t *codes; /* row_bytes a row: a bit stream of `bits` bits, least significant first; base 3 when bits == 0 */
  int64_t row_bytes;
  int32_t bits;
  int32_t group;         /* columns of a stored group; 0: the whole row */
  int32_t rows;          /* rows of a stored block, 1 for most formats */
  int64_t scale_stride;  /* elements from one row of blocks to the next; 0 when one row serves all */
  const void *scales;    /* float32, float16 or bytes, as the matrix' scale says; NULL for NW_SCALE_NONE */
  const uint8_t *zeros;  /* codes, one byte each (NW_ZERO_U8), or float16 (NW_ZERO_F16); stride as scales; else NULL */
} nw_stored;

/* ---- the machine ---- */
NW_API int nw_abi(void);
NW_API const char *nw_isa(void);                 /* the level in use */
NW_API const char *nw_isa_levels(void);          /* every level this build has and this CPU can run, best first, spaces between */
NW_API int nw_set_isa(const char *level);        /* NW_BAD_SPEC if it is not among them */
NW_API void nw_set_threads(int threads);         /* how many threads share a call, this one included */
NW_API int nw_threads(void);
/* Reads it all; for measuring. One stream a thread is a plain read; eight streams, which ask ahead, are what memory can give at best. */
NW_API int64_t nw_read(const void *data, int64_t bytes, int streams);
NW_API int64_t nw_multiply(int64_t rounds);      /* int8 products in registers on one thread: the number of operations done */

/* ---- matrices ---- */
NW_API int64_t nw_packed_bytes(const nw_matrix *matrix); /* negative: not a matrix these kernels know */
NW_API int nw_pack(const nw_matrix *matrix, const nw_stored *stored, uint8_t *data);

/* y (m, n) = x (m, k) W^T + bias; strides in elements. Activations take 8 bits and a scale per NW_BLOCK columns, or, with
 * exact != 0, stay in float32 (after rounding, where the matrix has levels). NW_NOT_FINITE when x holds NaN or infinity: y is then left undefined. */
NW_API int nw_linear(const nw_matrix *matrix, const float *x, int64_t m, int64_t x_stride, const float *bias, float *y,
                     int64_t y_stride, int exact);
/* Several matrices that read the same x: one activation quantization, one round of threads. */
NW_API int nw_linears(const nw_matrix *const *matrices, int count, const float *x, int64_t m, int64_t x_stride,
                      const float *const *biases, float *const *y, const int64_t *y_strides, int exact);
/* out (count, k): rows of the matrix, decoded. */
NW_API int nw_rows(const nw_matrix *matrix, const int64_t *rows, int64_t count, float *out, int64_t out_stride);
/* The 8-bit activations that nw_linear uses: q (m, k padded to NW_BLOCK), scale (m, blocks). */
NW_API int nw_quantize(const float *x, int64_t m, int64_t k, int64_t x_stride, int8_t *q, float *scale);

/* y (batch, n, out_h, out_w) = conv2d(x (batch, channels, h, w)); the matrix is (n, kernel_h * kernel_w * channels), channels
 * innermost, one group of channels. */
typedef struct {
  int32_t batch, channels, height, width;
  int32_t kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  int64_t x_batch_stride, y_batch_stride; /* elements; within a batch x is contiguous, y is (n, out_h, out_w) contiguous */
} nw_conv;
NW_API int nw_conv2d(const nw_matrix *matrix, const nw_conv *shape, const float *x, const float *bias, float *y, int exact);

/* ---- simulated training: values as blocks of a small format would give them back ---- */

enum nw_round_format { NW_ROUND_NVFP4 = 0, NW_ROUND_MXFP4 = 1 };

/* x and y are dense memory, (outer, rows, mid, length, inner). Blocks lie along length (16 elements, MXFP4: 32) and, with
 * row_block 16, over as many rows; else rows and mid are 1. A block at an end may be shorter. */
typedef struct {
  int64_t outer, rows, mid, length, inner;
  int64_t samples;    /* equal leading parts of outer, each with a second-level scale of its own */
  uint64_t seed;      /* of stochastic rounding; a draw depends on it and on the element's place in memory, on nothing else */
  int32_t format, row_block, stochastic;
  int32_t rule;       /* 0: a block's maximum becomes 6; 1: 6 or 4, what errs less (NVFP4) */
  int32_t signs;      /* bit i: element i of each 16 changes sign before the Hadamard transform; negative: no transform */
  float ratio;        /* of a block's maximum that is the end of its range, 1 for all of it */
} nw_rounding;
/* y may be x. Returns how many samples held NaN or infinity: they are NaN throughout. */
NW_API int nw_round_blocks(const nw_rounding *how, const float *x, float *y);

/* Groups of `width` elements lie along length of dense memory (outer, length, inner), a last one may be shorter; scales are given,
 * (outer, groups, inner), >= 0; 0 stands for a group of zeros. Elements become multiples of them, and values again. */
typedef struct {
  int64_t outer, length, inner, width;
  uint64_t seed;         /* as in nw_rounding */
  int32_t stochastic;
  int32_t mantissa_bits; /* of a small float; -1: whole numbers from low to high, with one zero */
  int32_t min_exponent;  /* of the small float's normal numbers */
  float low, high;       /* ends of the range; of a small float both are `high` away from 0 */
} nw_scaling;
/* y may be x; values must be finite. */
NW_API int nw_round_scaled(const nw_scaling *how, const float *x, const float *scale, float *y);

/* ---- language models: a decoder described as data ---- */

/* y = x W^T + bias, packed or as stored (row-major float32, float16 or bfloat16). */
typedef struct {
  const nw_matrix *packed; /* NULL: plain */
  const void *plain;
  int32_t plain_type; /* 0 float32, 1 float16, 2 bfloat16 */
  int32_t n, k;       /* n = 0: there is no such layer */
  const float *bias;  /* NULL: none */
} nw_layer;

typedef struct {
  const float *attention_norm, *attention_norm_bias, *mlp_norm, *mlp_norm_bias;
  nw_layer q, k, v; /* k and v absent: q gives all three, one after another */
  nw_layer o, gate, up, down; /* gate absent: down(activation(up)) */
} nw_decoder_block;

typedef struct {
  int32_t hidden, blocks, heads, kv_heads, head_dim, vocab, longest;
  int32_t norm;       /* 0 root mean square, 1 mean and variance */
  int32_t activation; /* 0 silu, 1 gelu by tanh, 2 gelu, 3 relu */
  int32_t exact;      /* float32 activations in packed layers */
  float norm_eps, attention_scale;
  const float *rotary_cos, *rotary_sin; /* (longest, head_dim / 2), halves apart; NULL: none */
  const float *positions;               /* (longest, hidden), added to the embedding; NULL: none */
  const float *final_norm, *final_norm_bias;
  nw_layer embedding, head; /* rows of `embedding` are looked up */
  const nw_decoder_block *block;
} nw_decoder;

typedef struct nw_session nw_session; /* keys and values of one text */
NW_API nw_session *nw_session_new(const nw_decoder *decoder, int64_t capacity); /* NULL: no memory */
NW_API void nw_session_free(nw_session *session);
NW_API int64_t nw_session_length(const nw_session *session);
NW_API int nw_session_cut(nw_session *session, int64_t length); /* forget what follows */
NW_API int64_t nw_session_bytes(const nw_session *session);

/* Reads counts[i] further tokens of each session. logits (texts, vocab): after each text's last token, or, with all != 0,
 * (sum of counts, vocab); may be NULL. A session may appear once. */
NW_API int nw_decode(const nw_decoder *decoder, nw_session *const *sessions, const int32_t *counts, int32_t texts,
                     const int32_t *tokens, float *logits, int all);
/* One token from logits: the largest for temperature 0, else a draw from softmax(logits / temperature) decided by seed and step. */
NW_API int32_t nw_sample(const float *logits, int32_t vocab, float temperature, uint64_t seed, uint64_t step);

#ifdef __cplusplus
}
#endif
#endif
