// Causal multi-head attention (Vaswani et al. 2017, arXiv 1706.03762), block by block with a running softmax
// (Dao 2023, arXiv 2307.08691). For each head, with S = Q · Kᵀ / sqrt(HS) and keys up to the query's own position:
//   forward:  P = softmax(S);  out = P · V;  lse = log(sum of e^S)
//   backward: P = e^(S - lse), made anew;  dV = Pᵀ · dout;  dP = dout · Vᵀ;  delta = sum of dout · out over a row
//             dS = P ⊙ (dP - delta) / sqrt(HS);  dQ = dS · K;  dK = dSᵀ · Q
// Blocks are kBlock × kBlock; those above the diagonal are never visited.
#include <cinttypes>
#include <cmath>
#include <limits>

#include "common/door.h"
#include "cpu/bf16.h"
#include "cpu/gemm.h"
#include "cpu/scratch.h"
#include "cpu/threads.h"
#include "cpu/vector_math.h"

using namespace llmts;

namespace {

constexpr int64_t kBlock = 64;
// Multiplications worth waking a thread for; and of few queries, whose keys and values come from memory.
constexpr int64_t kGrain = 1 << 20, kFewQueriesGrain = 1 << 15;

// Rows of HS elements, `stride` elements apart.
struct Rows {
  Elements data;
  int64_t stride;
  Elements row(int64_t index) const { return data + index * stride; }
};

// One head of one sequence. Queries stand at positions first_position, first_position + 1 …; keys at 0, 1 …
struct Head {
  Rows query, key, value;
  int64_t queries, first_position, HS;
  float scale;
};

int64_t blocks(int64_t rows) { return rows / kBlock + (rows % kBlock != 0); }

template <class A, class B>
float dot(const A *a, const B *b, int64_t n) {
  float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += as_float(a[i]) * as_float(b[i]);
  return sum;
}

// How many of the `columns` keys from `first_key` on the query at `position` may see.
int64_t visible(int64_t position, int64_t first_key, int64_t columns) {
  return std::clamp<int64_t>(position - first_key + 1, 0, columns);
}

// The running softmax of a block of queries: the largest scaled score of each so far, and the sum of e^(score -
// largest).
struct Running {
  float largest[kBlock], sum[kBlock];
};

// scores (rows,kBlock) = e^(scale · scores - largest so far), 0 where a query may not see the key; rescales what was
// summed before, accumulated (rows,HS). Every query has seen a key by the end of its first block.
void softmax_step(Running &running, float *accumulated, float *scores, int64_t rows, int64_t position, int64_t key,
                  int64_t columns, float scale, int64_t HS) {
  float correction[kBlock];
  for (int64_t row = 0; row < rows; ++row) {
    float *const score = scores + row * kBlock;
    const int64_t count = visible(position + row, key, columns);
    std::fill(score + count, score + kBlock, -std::numeric_limits<float>::infinity());
    float largest = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : largest)
    for (int64_t i = 0; i < kBlock; ++i) largest = score[i] > largest ? score[i] : largest;
    largest = std::max(running.largest[row], largest * scale);
    correction[row] = running.largest[row] - largest;
    running.largest[row] = largest;
  }
#pragma omp simd
  for (int64_t row = 0; row < rows; ++row) correction[row] = exp_fast(correction[row]);
  for (int64_t row = 0; row < rows; ++row) {
    float *const score = scores + row * kBlock, *const before = accumulated + row * HS;
    const float largest = running.largest[row], factor = correction[row];
    float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
    for (int64_t i = 0; i < kBlock; ++i) {
      score[i] = exp_fast(score[i] * scale - largest);
      sum += score[i];
    }
    running.sum[row] = running.sum[row] * factor + sum;
    if (factor == 1.0f) continue;
#pragma omp simd
    for (int64_t i = 0; i < HS; ++i) before[i] *= factor;
  }
}

int64_t forward_workspace(int64_t HS) { return kBlock * (kBlock + HS); }

// Attention of one block of queries. out and lse point to the block's first row; lse may be null.
void forward_block(float *out, int64_t out_stride, float *lse, const Head &head, int64_t block, float *workspace) {
  const int64_t HS = head.HS, first = block * kBlock, rows = std::min(kBlock, head.queries - first);
  const int64_t position = head.first_position + first, keys = position + rows;
  float *const scores = workspace, *const accumulated = workspace + kBlock * kBlock;
  Running running;
  std::fill(running.largest, running.largest + rows, -std::numeric_limits<float>::infinity());
  std::fill(running.sum, running.sum + rows, 0.0f);
  std::fill(accumulated, accumulated + rows * HS, 0.0f);
  for (int64_t key = 0; key < keys; key += kBlock) {
    const int64_t columns = std::min(kBlock, keys - key);
    multiply(scores, kBlock, Store::Overwrite, as_is(head.query.row(first), head.query.stride),
             transposed(head.key.row(key), head.key.stride), rows, columns, HS);
    softmax_step(running, accumulated, scores, rows, position, key, columns, head.scale, HS);
    multiply(accumulated, HS, Store::Add, as_is(scores, kBlock), as_is(head.value.row(key), head.value.stride), rows,
             HS, columns);
  }
  for (int64_t row = 0; row < rows; ++row) {
    const float inverse = 1.0f / running.sum[row];
    for (int64_t i = 0; i < HS; ++i) out[row * out_stride + i] = accumulated[row * HS + i] * inverse;
    if (lse != nullptr) lse[row] = running.largest[row] + std::log(running.sum[row]);
  }
}

// Calls body(head, block, workspace) for all blocks of all heads, the longest first, dealt out to the threads in turn.
template <class Body>
void for_each_block(int64_t heads, int64_t blocks_each, int threads, int64_t workspace_size, Body &&body) {
  const Scratch<float> workspace({workspace_size, threads});
  parallel(threads, [&](int part, int parts) {
    for (int64_t task = part; task < heads * blocks_each; task += parts)
      body(task % heads, blocks_each - 1 - task / heads, workspace.data() + workspace_size * part);
  });
}

// What backward reads and writes of one head.
struct BackwardHead {
  Head forward;
  Rows dout;
  const float *lse, *delta;
  float *dquery, *dkey, *dvalue;
  int64_t dstride;
};

struct BackwardWorkspace {
  BackwardWorkspace(float *memory, int64_t HS)
      : probability(memory),
        dscore(probability + kBlock * kBlock),
        first(dscore + kBlock * kBlock),
        second(first + kBlock * HS) {}
  static int64_t size(int64_t HS) { return 2 * kBlock * (kBlock + HS); }
  float *probability, *dscore;  // of a pair of blocks
  float *first, *second;        // gradients of a block being summed
};

// The probabilities of a pair of blocks and the gradients of their scores.
void backward_pair(const BackwardWorkspace &work, const BackwardHead &head, int64_t query, int64_t rows, int64_t key,
                   int64_t columns) {
  const Head &f = head.forward;
  multiply(work.probability, kBlock, Store::Overwrite, as_is(f.query.row(query), f.query.stride),
           transposed(f.key.row(key), f.key.stride), rows, columns, f.HS);
  multiply(work.dscore, kBlock, Store::Overwrite, as_is(head.dout.row(query), head.dout.stride),
           transposed(f.value.row(key), f.value.stride), rows, columns, f.HS);
  for (int64_t row = 0; row < rows; ++row) {
    float *const p = work.probability + row * kBlock, *const ds = work.dscore + row * kBlock;
    const int64_t count = visible(query + row, key, columns);
    const float lse = head.lse[query + row], delta = head.delta[query + row], scale = f.scale;
    std::fill(p + count, p + kBlock, -std::numeric_limits<float>::infinity());
    std::fill(ds + count, ds + kBlock, 0.0f);
#pragma omp simd
    for (int64_t i = 0; i < kBlock; ++i) {
      p[i] = exp_fast(p[i] * scale - lse);
      ds[i] = p[i] * (ds[i] - delta) * scale;
    }
  }
}

void store_rows(float *out, int64_t out_stride, const float *from, int64_t rows, int64_t HS) {
  for (int64_t row = 0; row < rows; ++row) std::copy_n(from + row * HS, HS, out + row * out_stride);
}

// dK and dV of one block of keys; where dquery (T,HS) is not null, adds the block's share of dQ into it.
void backward_keys(const BackwardWorkspace &work, float *dquery, const BackwardHead &head, int64_t block) {
  const Head &f = head.forward;
  const int64_t T = f.queries, HS = f.HS, key = block * kBlock, columns = std::min(kBlock, T - key);
  std::fill(work.first, work.first + columns * HS, 0.0f);
  std::fill(work.second, work.second + columns * HS, 0.0f);
  for (int64_t query = key; query < T; query += kBlock) {
    const int64_t rows = std::min(kBlock, T - query);
    backward_pair(work, head, query, rows, key, columns);
    multiply(work.first, HS, Store::Add, transposed(work.dscore, kBlock), as_is(f.query.row(query), f.query.stride),
             columns, HS, rows);
    multiply(work.second, HS, Store::Add, transposed(work.probability, kBlock),
             as_is(head.dout.row(query), head.dout.stride), columns, HS, rows);
    if (dquery != nullptr)
      multiply(dquery + query * HS, HS, Store::Add, as_is(work.dscore, kBlock), as_is(f.key.row(key), f.key.stride),
               rows, HS, columns);
  }
  store_rows(head.dkey + key * head.dstride, head.dstride, work.first, columns, HS);
  store_rows(head.dvalue + key * head.dstride, head.dstride, work.second, columns, HS);
}

// dQ of one block of queries.
void backward_queries(const BackwardWorkspace &work, const BackwardHead &head, int64_t block) {
  const Head &f = head.forward;
  const int64_t HS = f.HS, query = block * kBlock, rows = std::min(kBlock, f.queries - query);
  std::fill(work.first, work.first + rows * HS, 0.0f);
  for (int64_t key = 0; key <= query; key += kBlock) {
    const int64_t columns = std::min(kBlock, f.queries - key);
    backward_pair(work, head, query, rows, key, columns);
    multiply(work.first, HS, Store::Add, as_is(work.dscore, kBlock), as_is(f.key.row(key), f.key.stride), rows, HS,
             columns);
  }
  store_rows(head.dquery + query * head.dstride, head.dstride, work.first, rows, HS);
}

int64_t head_size(int64_t C, int64_t NH) {
  if (NH < 1 || C % NH != 0)
    fail(LLMTS_INVALID_ARGUMENT, "NH is %" PRId64 ", expected a divisor of C, %" PRId64, NH, C);
  return C / NH;
}

// Writes HS elements into a cache from its at-th on, in its precision.
void put(void *cache, bool narrow, int64_t at, Elements row, int64_t HS) {
  dispatch(row, [&](const auto *from) {
    if (narrow)
      convert(static_cast<Bf16 *>(cache) + at, from, HS);
    else
      convert(static_cast<float *>(cache) + at, from, HS);
  });
}

float score_scale(int64_t HS) { return 1.0f / std::sqrt(static_cast<float>(HS)); }

}  // namespace

int32_t llmts_attention_forward(void *out, int32_t out_dtype, float *lse, const void *qkv, int32_t qkv_dtype, int64_t B,
                                int64_t T, int64_t C, int64_t NH) {
  return guarded("attention_forward", {{"B", B}, {"T", T}, {"C", C}, {"NH", NH, Dim::Limit}}, [&] {
    const int64_t HS = head_size(C, NH);
    const Output o("out", out, out_dtype, {B, T, C});
    optional_tensor("lse", lse, Shape{B, NH, T});
    const Elements in("qkv", qkv, qkv_dtype, {B, T, 3, C});
    const int64_t heads = B * NH;
    const int threads = threads_for(1.0 * B * T * C * T, kGrain);
    for_each_block(heads, blocks(T), threads, forward_workspace(HS), [&](int64_t head, int64_t block, float *work) {
      const int64_t b = head / NH, offset = head % NH * HS;
      const Elements query = in + b * T * 3 * C + offset;
      const Head forward = {{query, 3 * C}, {query + C, 3 * C}, {query + 2 * C, 3 * C}, T, 0, HS, score_scale(HS)};
      forward_block(o + (b * T + block * kBlock) * C + offset, C,
                    lse == nullptr ? nullptr : lse + head * T + block * kBlock, forward, block, work);
    });
    o.store();
  });
}

int32_t llmts_attention_backward(void *dqkv, int32_t dqkv_dtype, const void *dout, int32_t dout_dtype, const void *out,
                                 int32_t out_dtype, const float *lse, const void *qkv, int32_t qkv_dtype, int64_t B,
                                 int64_t T, int64_t C, int64_t NH) {
  return guarded("attention_backward", {{"B", B}, {"T", T}, {"C", C}, {"NH", NH, Dim::Limit}}, [&] {
    const int64_t HS = head_size(C, NH);
    const Output d("dqkv", dqkv, dqkv_dtype, {B, T, 3, C});
    const Elements dy("dout", dout, dout_dtype, {B, T, C});
    const Elements y("out", out, out_dtype, {B, T, C});
    tensor("lse", lse, {B, NH, T});
    const Elements in("qkv", qkv, qkv_dtype, {B, T, 3, C});
    const int64_t heads = B * NH;
    const int threads = threads_for(1.0 * B * T * C * T, kGrain);

    const Scratch<float> delta({heads, T});
    const auto head_at = [&](int64_t index) -> BackwardHead {
      const int64_t b = index / NH, offset = index % NH * HS;
      const Elements query = in + b * T * 3 * C + offset;
      float *const dquery = d + b * T * 3 * C + offset;
      return {{{query, 3 * C}, {query + C, 3 * C}, {query + 2 * C, 3 * C}, T, 0, HS, score_scale(HS)},
              {dy + b * T * C + offset, C},
              lse + index * T,
              delta.data() + index * T,
              dquery,
              dquery + C,
              dquery + 2 * C,
              3 * C};
    };
    parallel_slices(heads * T, 1, threads, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t head = i / T, row = (head / NH * T + i % T) * C + head % NH * HS;
        delta.data()[i] = dispatch(dy + row, [&](const auto *left) {
          return dispatch(y + row, [&](const auto *right) { return dot(left, right, HS); });
        });
      }
    });

    if (heads >= threads) {  // whole heads: each pair of blocks is visited once
      const int64_t size = BackwardWorkspace::size(HS) + T * HS;
      for_each_block(heads, 1, threads, size, [&](int64_t index, int64_t, float *memory) {
        const BackwardHead head = head_at(index);
        const BackwardWorkspace work(memory, HS);
        float *const dquery = memory + BackwardWorkspace::size(HS);
        std::fill(dquery, dquery + T * HS, 0.0f);
        for (int64_t block = 0; block < blocks(T); ++block) backward_keys(work, dquery, head, block);
        store_rows(head.dquery, head.dstride, dquery, T, HS);
      });
      d.store();
      return;
    }
    // Fewer heads than threads: blocks of keys, then blocks of queries, each pair being visited twice.
    for_each_block(heads, blocks(T), threads, BackwardWorkspace::size(HS),
                   [&](int64_t index, int64_t block, float *memory) {
                     const BackwardHead head = head_at(index);
                     const BackwardWorkspace work(memory, HS);
                     backward_keys(work, nullptr, head, blocks(T) - 1 - block);
                     backward_queries(work, head, block);
                   });
    d.store();
  });
}

int32_t llmts_attention_cached(void *out, int32_t out_dtype, void *keys, void *values, int32_t cache_dtype,
                               const void *qkv, int32_t qkv_dtype, int64_t B, int64_t T, int64_t C, int64_t NH,
                               int64_t maxT, int64_t position) {
  const Dims dims = {{"B", B},
                     {"T", T},
                     {"C", C},
                     {"NH", NH, Dim::Limit},
                     {"maxT", maxT, Dim::Limit},
                     {"position", position, Dim::Limit}};
  return guarded("attention_cached", dims, [&] {
    const int64_t HS = head_size(C, NH);
    check_position(position, T, maxT);
    const Output o("out", out, out_dtype, {B, T, C});
    const Elements k("keys", keys, cache_dtype, {B, NH, maxT, HS});
    const Elements v("values", values, cache_dtype, {B, NH, maxT, HS});
    const Elements in("qkv", qkv, qkv_dtype, {B, T, 3, C});
    const int64_t heads = B * NH;
    for (int64_t head = 0; head < heads; ++head) {
      const Elements key = in + (head / NH * T * 3 + 1) * C + head % NH * HS;
      for (int64_t t = 0; t < T; ++t) {
        const int64_t slot = (head * maxT + position + t) * HS;
        put(keys, k.narrow, slot, key + t * 3 * C, HS);
        put(values, v.narrow, slot, key + t * 3 * C + C, HS);
      }
    }
    const int threads = threads_for(1.0 * B * T * C * (position + T), T < kBlock ? kFewQueriesGrain : kGrain);
    for_each_block(heads, blocks(T), threads, forward_workspace(HS), [&](int64_t head, int64_t block, float *work) {
      const int64_t b = head / NH, offset = head % NH * HS;
      const Head forward = {{in + b * T * 3 * C + offset, 3 * C},
                            {k + head * maxT * HS, HS},
                            {v + head * maxT * HS, HS},
                            T,
                            position,
                            HS,
                            score_scale(HS)};
      forward_block(o + (b * T + block * kBlock) * C + offset, C, nullptr, forward, block, work);
    });
    o.store();
  });
}
