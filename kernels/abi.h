/* llmts kernels: the contract between TypeScript and the C libraries.
 *
 * Every library (kernels/cpu, kernels/cuda) exports exactly these functions; ffi/symbols.ts declares the same
 * table, and tests/ffi/abi_test.ts parses this file and compares the two, declaration by declaration.
 *
 * Rules that hold for every function
 * - Returns a status: 0 is success, anything else a class of error (llmts_status); llmts_last_error has the words.
 *   No exception, abort or signal crosses this boundary. Dimensions and pointers are checked at the door, token ids
 * too.
 * - All memory belongs to the caller, row-major and without gaps; no pointer is kept after a call returns. Scratch
 * comes from a pool of the library's, freed by llmts_shutdown. A call with an extent of zero does nothing and succeeds.
 * - Outputs first, then inputs, then dimensions. `d` before a name is its gradient. Backward functions STORE into
 *   gradients of activations. Into gradients of parameters, marked (+)=, they add where `accumulate` is 1, and store
 *   where it is 0, every element of them, so that the first of several micro-steps needs no zeroed memory.
 * - A tensor whose precision follows the run is a `void *` followed by its dtype (llmts_dtype); losses, statistics,
 *   gradients of parameters and optimizer state are `float *`, always fp32. Sums are taken in fp32 or wider.
 * - Sizes are 64-bit counts of elements unless the name says bytes. Nothing wraps at 2^31.
 * - Pointers are to the library's own device: host memory for the CPU library, device memory for CUDA. The exceptions,
 *   marked HOST, are host memory for both.
 * - Same inputs and same number of threads give the same bits.
 *
 * Letters: B sequences, T positions, C channels, NH heads, HS = C / NH, N = rows (B·T), OC output channels,
 * V vocabulary, Vp padded vocabulary (Vp >= V).
 */
#ifndef LLMTS_ABI_H
#define LLMTS_ABI_H

#include <stdint.h>

#ifndef LLMTS_EXPORT
#define LLMTS_EXPORT
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define LLMTS_ABI_VERSION 2

enum llmts_status {
  LLMTS_OK = 0,
  LLMTS_INVALID_ARGUMENT = 1, /* a null pointer, a negative or inconsistent dimension, a token id out of range */
  LLMTS_OUT_OF_MEMORY = 2,    /* scratch could not be allocated */
  LLMTS_UNSUPPORTED = 3,      /* right in principle, not built into this library (a dtype, say) */
  LLMTS_DEVICE_ERROR = 4,     /* the device or its driver failed */
  LLMTS_INTERNAL = 5          /* a bug in the library */
};

enum llmts_dtype { LLMTS_FP32 = 0, LLMTS_BF16 = 1 };

enum llmts_activation { LLMTS_IDENTITY = 0, LLMTS_GELU = 1 };

/* ---- library ------------------------------------------------------------------------------------------------- */

/* LLMTS_ABI_VERSION of the sources this library was built from. The one function that returns no status. */
LLMTS_EXPORT int32_t llmts_abi_version(void);

/* Copies the calling thread's last error into text (HOST, UTF-8, at most capacity bytes) and stores its length in
 * bytes, cut to capacity, in length[0] (HOST). */
LLMTS_EXPORT int32_t llmts_last_error(uint8_t *text, int64_t *length, int64_t capacity);

/* Describes library and device as one JSON object: {"device", "variant", "level", "features", "threads"}: "variant" is
 * what this library was built for ("x86-64-v3", "aarch64" …), "level" the highest x86-64 level the machine can run
 * (1 … 4; 0 on other machines), by which the loader picks a variant, "threads" how many kernels use now. HOST memory,
 * as llmts_last_error. */
LLMTS_EXPORT int32_t llmts_device_info(uint8_t *text, int64_t *length, int64_t capacity);

/* Sets how many threads kernels use (1 … 1024); 0 is the default, the processors this process may run on. */
LLMTS_EXPORT int32_t llmts_set_threads(int32_t threads);

/* Frees the library's scratch memory. Later calls allocate it anew. */
LLMTS_EXPORT int32_t llmts_shutdown(void);

/* ---- memory -------------------------------------------------------------------------------------------------- */

/* Sets memory to zero with all threads. Asks for huge pages first where the system has them: on fresh memory this is
 * the first touch, by the threads that will use it. */
LLMTS_EXPORT int32_t llmts_zero(void *memory, int64_t bytes);

/* Stores in bytes[0] (HOST) how far memory (HOST) is from the next multiple of alignment, a power of two: 0 where it is
 * one. A buffer that a runtime allocated is aligned with it. */
LLMTS_EXPORT int32_t llmts_alignment_gap(int64_t *bytes, const void *memory, int64_t alignment);

/* ---- packed weights ------------------------------------------------------------------------------------------ */

/* A weight of llmts_matmul_forward in int8, for decoding, which is bound by reading weights: each row with a scale of
 * its own, w = q · scale, scale = max |w| / 127. Stores in bytes[0] (HOST) how large that is for an (OC, C) weight; 0
 * where the library has no such layout. The layout is the library's secret, the memory the caller's. */
LLMTS_EXPORT int32_t llmts_packed_bytes(int64_t *bytes, int64_t OC, int64_t C);

/* Writes packed from weight (OC, C). */
LLMTS_EXPORT int32_t llmts_pack(void *packed, const void *weight, int32_t weight_dtype, int64_t OC, int64_t C);

/* ---- embedding ----------------------------------------------------------------------------------------------- */

/* out (B,T,C) = wte[tokens] + wpe[position + t]. tokens (B,T), each in [0, V); wte (>= V, C); wpe (maxT, C);
 * position is that of the first token (0 in training, the length of the cache in decoding), position + T <= maxT. */
LLMTS_EXPORT int32_t llmts_embedding_forward(void *out, int32_t out_dtype, const int32_t *tokens, const void *wte,
                                             int32_t wte_dtype, const void *wpe, int32_t wpe_dtype, int64_t B,
                                             int64_t T, int64_t C, int64_t V, int64_t maxT, int64_t position);

/* dwte (>= V, C) += dout, by token; dwpe (maxT, C) (+)= dout, by position, and rows from T on (+)= 0. accumulate is
 * dwpe's alone: llmts_classifier, which comes first in a backward pass, has stored into dwte. Deterministic: rows are
 * summed in order. T <= maxT. */
LLMTS_EXPORT int32_t llmts_embedding_backward(float *dwte, float *dwpe, const void *dout, int32_t dout_dtype,
                                              const int32_t *tokens, int32_t accumulate, int64_t B, int64_t T,
                                              int64_t C, int64_t V, int64_t maxT);

/* ---- layernorm (Ba et al. 2016), eps 1e-5 ------------------------------------------------------------------------ */

/* out (N,C) = (x - mean) · rstd · weight + bias, with mean and rstd = 1 / sqrt(var + eps) of each row. mean, rstd (N);
 * x (N,C); weight, bias (C). mean and rstd may be null. */
LLMTS_EXPORT int32_t llmts_layernorm_forward(void *out, int32_t out_dtype, float *mean, float *rstd, const void *x,
                                             int32_t x_dtype, const void *weight, int32_t weight_dtype,
                                             const void *bias, int32_t bias_dtype, int64_t N, int64_t C);

/* residual (N,C) = a + b, then out = layernorm(residual), in one pass. residual may be a or b itself. */
LLMTS_EXPORT int32_t llmts_residual_layernorm_forward(void *residual, int32_t residual_dtype, void *out,
                                                      int32_t out_dtype, float *mean, float *rstd, const void *a,
                                                      int32_t a_dtype, const void *b, int32_t b_dtype,
                                                      const void *weight, int32_t weight_dtype, const void *bias,
                                                      int32_t bias_dtype, int64_t N, int64_t C);

/* dx (N,C) = gradient of x through the layernorm, plus dresidual (N,C) where it is not null: the gradient that reaches
 * x past the layernorm. dx may be dresidual or dout itself. dweight (C) (+)=, dbias (C) (+)=. */
LLMTS_EXPORT int32_t llmts_layernorm_backward(void *dx, int32_t dx_dtype, float *dweight, float *dbias,
                                              const void *dout, int32_t dout_dtype, const void *dresidual,
                                              int32_t dresidual_dtype, const void *x, int32_t x_dtype,
                                              const float *mean, const float *rstd, const void *weight,
                                              int32_t weight_dtype, int32_t accumulate, int64_t N, int64_t C);

/* ---- matmul: the linear layer ---------------------------------------------------------------------------------- */

/* out (N,OC) = activation(x · weightᵀ + bias). x (N,C); weight (OC,C), not read where packed is not null: the same in
 * int8; bias (OC) or null. Where pre is not null it receives the value before the activation (N,OC), which backward
 * needs, and the activation is that of what pre holds (where cuBLASLt does both: of that before its rounding). */
LLMTS_EXPORT int32_t llmts_matmul_forward(void *out, int32_t out_dtype, void *pre, int32_t pre_dtype, const void *x,
                                          int32_t x_dtype, const void *weight, int32_t weight_dtype, const void *packed,
                                          const void *bias, int32_t bias_dtype, int32_t activation, int64_t N,
                                          int64_t C, int64_t OC);

/* dx (N,C) = dout · weight. Where pre (N,C) is not null, x was gelu(pre), and dx becomes the gradient of pre:
 * (dout · weight) ⊙ gelu'(pre). */
LLMTS_EXPORT int32_t llmts_matmul_dinput(void *dx, int32_t dx_dtype, const void *dout, int32_t dout_dtype,
                                         const void *weight, int32_t weight_dtype, const void *pre, int32_t pre_dtype,
                                         int64_t N, int64_t C, int64_t OC);

/* dweight (OC,C) (+)= doutᵀ · x. */
LLMTS_EXPORT int32_t llmts_matmul_dweight(float *dweight, const void *dout, int32_t dout_dtype, const void *x,
                                          int32_t x_dtype, int32_t accumulate, int64_t N, int64_t C, int64_t OC);

/* dbias (OC) (+)= the sum of dout (N,OC) over its rows. */
LLMTS_EXPORT int32_t llmts_matmul_dbias(float *dbias, const void *dout, int32_t dout_dtype, int32_t accumulate,
                                        int64_t N, int64_t OC);

/* ---- attention: causal, multi-head, scale 1 / sqrt(HS) (Vaswani et al. 2017), blocked (Dao 2023) ----------------- */

/* out (B,T,C) from qkv (B,T,3C) = query, key, value side by side, each NH heads of HS. lse (B,NH,T) receives the
 * log-sum-exp of each row of scaled scores, for backward; it may be null. No (T,T) matrix is ever in memory. */
LLMTS_EXPORT int32_t llmts_attention_forward(void *out, int32_t out_dtype, float *lse, const void *qkv,
                                             int32_t qkv_dtype, int64_t B, int64_t T, int64_t C, int64_t NH);

/* dqkv (B,T,3C) from dout (B,T,C) and what forward read and wrote. */
LLMTS_EXPORT int32_t llmts_attention_backward(void *dqkv, int32_t dqkv_dtype, const void *dout, int32_t dout_dtype,
                                              const void *out, int32_t out_dtype, const float *lse, const void *qkv,
                                              int32_t qkv_dtype, int64_t B, int64_t T, int64_t C, int64_t NH);

/* Attention with a cache, for generation: appends the keys and values of qkv (B,T,3C), which stand at positions
 * position … position + T - 1, to keys and values (B,NH,maxT,HS), and lets each attend to all positions up to its own.
 * out (B,T,C). position + T <= maxT. */
LLMTS_EXPORT int32_t llmts_attention_cached(void *out, int32_t out_dtype, void *keys, void *values, int32_t cache_dtype,
                                            const void *qkv, int32_t qkv_dtype, int64_t B, int64_t T, int64_t C,
                                            int64_t NH, int64_t maxT, int64_t position);

/* ---- precision ------------------------------------------------------------------------------------------------- */

/* out (n) = x in another precision. Narrowing to bf16 rounds to the nearest, ties to even; NaN stays NaN. */
LLMTS_EXPORT int32_t llmts_convert(void *out, int32_t out_dtype, const void *x, int32_t x_dtype, int64_t n);

/* ---- element-wise ---------------------------------------------------------------------------------------------- */

/* out (n) = gelu(x) = x/2 · (1 + tanh(sqrt(2/pi) · (x + 0.044715 x³))) (Hendrycks and Gimpel 2016). Finite for every
 * finite x. */
LLMTS_EXPORT int32_t llmts_gelu_forward(void *out, int32_t out_dtype, const void *x, int32_t x_dtype, int64_t n);

/* dx (n) = dout · gelu'(x). dx may be dout itself. */
LLMTS_EXPORT int32_t llmts_gelu_backward(void *dx, int32_t dx_dtype, const void *dout, int32_t dout_dtype,
                                         const void *x, int32_t x_dtype, int64_t n);

/* out (n) = a + b. Its backward is the identity for both. out may be a or b itself. */
LLMTS_EXPORT int32_t llmts_residual_forward(void *out, int32_t out_dtype, const void *a, int32_t a_dtype, const void *b,
                                            int32_t b_dtype, int64_t n);

/* ---- classifier: vocabulary matmul, softmax and cross-entropy in one ------------------------------------------- */

/* losses (N) = -log softmax(x · wteᵀ)[target], over the V columns of the vocabulary (padding rows V … Vp of wte are
 * masked, but have to be finite), by log-sum-exp. x (N,C); wte (Vp,C); targets (N) in [0, V), or -1: a row that does
 * not count, whose loss and gradient are 0. Where dx is not null, backward in the same pass: with dlogits = (softmax -
 * onehot) · scale, dx (N,C) = dlogits · wte and dwte (Vp,C) (+)= dlogitsᵀ · x, rows V … Vp of dwte (+)= 0. dx and dwte
 * are both null or both given. scale is that of the loss, 1 / (rows in the whole batch) for a mean. Works through the
 * rows in chunks: the whole (N,Vp) logits never exist. */
LLMTS_EXPORT int32_t llmts_classifier(float *losses, void *dx, int32_t dx_dtype, float *dwte, const void *x,
                                      int32_t x_dtype, const void *wte, int32_t wte_dtype, const int32_t *targets,
                                      float scale, int32_t accumulate, int64_t N, int64_t C, int64_t V, int64_t Vp);

/* ---- optimizer ------------------------------------------------------------------------------------------------- */

/* norm[0] (HOST) = the Euclidean norm of grads (n), summed in double precision. */
LLMTS_EXPORT int32_t llmts_global_norm(double *norm, const float *grads, int64_t n);

/* One AdamW step (Loshchilov and Hutter 2019) over S segments of the parameter buffer, in one pass over memory:
 *   g = grads · grad_scale;  m = beta1 m + (1 - beta1) g;  v = beta2 v + (1 - beta2) g²
 *   params = params (1 - learning_rate · weight_decay · decays)
 *            - learning_rate · (m / (1 - beta1^step)) / (sqrt(v / (1 - beta2^step)) + eps)
 * step counts from 1. params, grads, m, v (n). bf16 params are rounded from master (n), their fp32 copy, to the
 * nearest; where master is null they are updated themselves and rounded stochastically: up or down with probabilities
 * that keep the mean, from a hash of seed, step and element. fp32 params take neither master nor seed. segments (S,3),
 * HOST: first element, number of elements, 1 if weight decay applies; they don't overlap, and elements in none are left
 * alone. */
LLMTS_EXPORT int32_t llmts_adamw(void *params, int32_t params_dtype, float *master, const float *grads, float *m,
                                 float *v, const int64_t *segments, int64_t S, int64_t n, float learning_rate,
                                 float beta1, float beta2, float eps, float weight_decay, float grad_scale,
                                 int64_t step, int64_t seed);

#ifdef __cplusplus
}
#endif
#endif
