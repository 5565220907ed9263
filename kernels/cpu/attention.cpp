// Causal multi-head attention (Vaswani et al. 2017, arXiv 1706.03762), block by block with a running softmax
// (Dao 2023, arXiv 2307.08691). For each head, with S = Q · Kᵀ / sqrt(HS) and keys up to the query's own position:
//   forward:  P = softmax(S);  out = P · V;  lse = log(sum of e^S)
//   backward: P = e^(S - lse), made anew;  dV = Pᵀ · dout;  dP = dout · Vᵀ;  delta = sum of dout · out over a row
//             dS = P ⊙ (dP - delta) / sqrt(HS);  dQ = dS · K;  dK = dSᵀ · Q
// Blocks are kBlock × kBlock; those above the diagonal are never visited.
#include <cinttypes>
#include <cmath>
#include <limits>
#include <optional>

#include "common/door.h"
#include "cpu/bf16.h"
#include "cpu/gemm.h"
#include "cpu/scratch.h"
#include "cpu/threads.h"
#include "cpu/vector.h"
#include "cpu/vector_math.h"

using namespace llmts;

namespace {

constexpr int64_t kBlock = 64;
static_assert(kBlock % kWidth == 0, "a row of a block is whole vectors");
// Multiplications worth waking a thread for; and of single queries, whose keys and values come from memory.
constexpr int64_t kGrain = 1 << 20, kSingleGrain = 1 << 15;
constexpr float kNever = -std::numeric_limits<float>::infinity();

// Rows of HS elements, `stride` elements apart.
struct Rows {
  Elements data;
  int64_t stride;
  Elements row(int64_t index) const { return data + index * stride; }
  View from(int64_t index) const { return as_is(row(index), stride); }
  View across(int64_t index) const { return transposed(row(index), stride); }
};

// One head of one sequence. Queries stand at positions first_position, first_position + 1 …; keys at 0, 1 …
struct Head {
  Rows query, key, value;
  int64_t queries, first_position, HS;
  float scale;
  int64_t keys() const { return first_position + queries; }
  bool narrow() const { return query.data.narrow || key.data.narrow; }
};

int64_t blocks(int64_t rows) { return rows / kBlock + (rows % kBlock != 0); }

// Rows of the block that begins at row `first` of `all`.
int64_t block_rows(int64_t first, int64_t all) { return std::min(kBlock, all - first); }

// Sizes of packed blocks, which are operands of several products: (kBlock,HS), to be summed over HS on the left of a
// product; its transpose (HS,kBlock) on the right; itself on the right; and (kBlock,kBlock) on the left.
struct Sizes {
  Sizes(int64_t HS, bool narrow)
      : rows(packed_left_size(kBlock, HS, narrow)),
        across(packed_right_size(kBlock, HS, narrow)),
        summed(packed_right_size(HS, kBlock, narrow)),
        square(packed_left_size(kBlock, kBlock, narrow)) {}
  int64_t rows, across, summed, square;
};

Vector largest_of(Vector a, Vector b) { return b > a ? b : a; }

// Rows at a time, so that what is summed up of each is a lane of one vector.
using RowVectors = Vector[kWidth];

// Lane i: combine() over all lanes of rows[i].
template <class Combine>
Vector across_rows(RowVectors &rows, Combine &&combine) {
  transpose(rows);
#pragma GCC unroll 4
  for (int distance = kWidth / 2; distance > 0; distance /= 2) {
    for (int i = 0; i < distance; ++i) rows[i] = combine(rows[i], rows[i + distance]);
  }
  return rows[0];
}

// How many of the `columns` keys from `first_key` on the query at `position` may see.
int64_t visible(int64_t position, int64_t first_key, int64_t columns) {
  return std::clamp<int64_t>(position - first_key + 1, 0, columns);
}

// The running softmax of a block of queries: the largest scaled score of each so far, and the sum of e^(score -
// largest).
struct Running {
  Running() {
    std::fill(largest, largest + kBlock, kNever);
    std::fill(sum, sum + kBlock, 0.0f);
  }
  float largest[kBlock], sum[kBlock];
};

// scores (rows,kBlock) = e^(scale · scores - largest so far), 0 where a query may not see the key; rescales what was
// summed before, accumulated (rows,HS). Every query has seen a key by the end of its first block.
void softmax_step(Running &running, float *accumulated, float *scores, int64_t rows, int64_t position, int64_t key,
                  int64_t columns, float scale, int64_t HS) {
  for (int64_t first = 0; first < rows; first += kWidth) {
    const int64_t count = std::min<int64_t>(kWidth, rows - first);
    RowVectors largest = {}, sums = {};
    for (int64_t row = 0; row < count; ++row) {
      float *const score = scores + (first + row) * kBlock;
      std::fill(score + visible(position + first + row, key, columns), score + kBlock, kNever);
      largest[row] = load(score);
      for (int64_t i = kWidth; i < kBlock; i += kWidth) largest[row] = largest_of(largest[row], load(score + i));
    }
    const Vector before = load(running.largest + first);
    const Vector now = largest_of(before, across_rows(largest, largest_of) * scale);
    const Vector factors = exp_fast(before - now);
    store(running.largest + first, now);
    for (int64_t row = 0; row < count; ++row) {
      float *const score = scores + (first + row) * kBlock, *const sum = accumulated + (first + row) * HS;
      const float shift = running.largest[first + row], factor = factors[row];
      for (int64_t i = 0; i < kBlock; i += kWidth) {
        const Vector probability = exp_fast(load(score + i) * scale - shift);
        store(score + i, probability);
        sums[row] += probability;
      }
      if (factor == 1.0f) continue;
#pragma omp simd
      for (int64_t i = 0; i < HS; ++i) sum[i] *= factor;
    }
    const Vector sum = across_rows(sums, [](Vector a, Vector b) { return a + b; });
    store(running.sum + first, load(running.sum + first) * factors + sum);
  }
}

// The keys and values of heads, packed block by block for queries that come in blocks.
class PackedKeys {
 public:
  PackedKeys(int64_t heads, int64_t keys, int64_t HS, bool narrow)
      : sizes_(HS, narrow),
        blocks_(blocks(keys)),
        keys_({heads, blocks_, sizes_.across}),
        values_({heads, blocks_, sizes_.summed}) {}
  float *key(int64_t head, int64_t block) const { return keys_.data() + (head * blocks_ + block) * sizes_.across; }
  float *value(int64_t head, int64_t block) const { return values_.data() + (head * blocks_ + block) * sizes_.summed; }

  void pack(int64_t index, int64_t block, const Head &head) const {
    const int64_t first = block * kBlock, rows = block_rows(first, head.keys());
    pack_right(key(index, block), head.key.across(first), rows, head.HS, head.narrow());
    pack_right(value(index, block), head.value.from(first), head.HS, rows, head.narrow());
  }

 private:
  Sizes sizes_;
  int64_t blocks_;
  Scratch<float> keys_, values_;
};

int64_t forward_workspace(int64_t HS, const Sizes &sizes) { return kBlock * (kBlock + HS) + sizes.rows + sizes.square; }

// Attention of one block of queries of the head with the given index. out (HS from row to row out_stride) and lse point
// to the block's first row; lse may be null. A single query is multiplied with keys and values as they lie: packed is
// null.
template <class Out>
void forward_block(Out *out, int64_t out_stride, float *lse, const Head &head, int64_t index, int64_t block,
                   const PackedKeys *packed, float *workspace) {
  const int64_t HS = head.HS, first = block * kBlock, rows = block_rows(first, head.queries);
  const int64_t position = head.first_position + first, keys = position + rows;
  const bool narrow = head.narrow();
  float *const scores = workspace, *const accumulated = scores + kBlock * kBlock;
  float *const probability = accumulated + kBlock * HS, *const query = probability + Sizes(HS, narrow).square;
  Running running;
  std::fill(accumulated, accumulated + rows * HS, 0.0f);
  if (packed != nullptr) pack_left(query, head.query.from(first), rows, HS, narrow);
  for (int64_t key = 0; key < keys; key += kBlock) {
    const int64_t columns = block_rows(key, head.keys());
    if (packed == nullptr)
      multiply(scores, kBlock, Store::Overwrite, head.query.from(first), head.key.across(key), rows, columns, HS);
    else
      multiply_packed(scores, kBlock, Store::Overwrite, query, packed->key(index, key / kBlock), rows, columns, HS,
                      narrow);
    softmax_step(running, accumulated, scores, rows, position, key, columns, head.scale, HS);
    if (packed == nullptr) {
      multiply(accumulated, HS, Store::Add, as_is(scores, kBlock), head.value.from(key), rows, HS, columns);
    } else {
      pack_left(probability, as_is(scores, kBlock), rows, columns, narrow);
      multiply_packed(accumulated, HS, Store::Add, probability, packed->value(index, key / kBlock), rows, HS, columns,
                      narrow);
    }
  }
  for (int64_t row = 0; row < rows; ++row) {
    const float inverse = 1.0f / running.sum[row];
    float *const sums = accumulated + row * HS;
#pragma omp simd
    for (int64_t i = 0; i < HS; ++i) sums[i] *= inverse;
    convert(out + row * out_stride, sums, HS);
    if (lse != nullptr) lse[row] = running.largest[row] + std::log(running.sum[row]);
  }
}

// Calls body(head, block, workspace) for all blocks of all heads, head by head so that what belongs to one stays in the
// cache. Of each head's blocks, the longest first, threads get every so many, beginning with another thread each time.
template <class Body>
void for_each_block(int64_t heads, int64_t blocks_each, int threads, int64_t workspace_size, Body &&body) {
  const Scratch<float> workspace({workspace_size, threads});
  parallel(threads, [&](int part, int parts) {
    for (int64_t head = 0; head < heads; ++head) {
      for (int64_t i = ((part - head) % parts + parts) % parts; i < blocks_each; i += parts)
        body(head, blocks_each - 1 - i, workspace.data() + workspace_size * part);
    }
  });
}

// out (B,T,NH,HS) and, where not null, lse (B,NH,T) of the heads that head_at(index) describes.
template <class HeadAt>
void forward(const Destination &out, float *lse, HeadAt &&head_at, int64_t B, int64_t NH, int64_t grain) {
  const Head any = head_at(0);
  const int64_t T = any.queries, HS = any.HS, heads = B * NH;
  const int threads = threads_for(1.0 * heads * T * HS * any.keys(), static_cast<double>(grain));
  std::optional<PackedKeys> packed;
  if (T > 1) {
    packed.emplace(heads, any.keys(), HS, any.narrow());
    for_each_block(heads, blocks(any.keys()), threads, 0,
                   [&](int64_t index, int64_t block, float *) { packed->pack(index, block, head_at(index)); });
  }
  const int64_t workspace = forward_workspace(HS, Sizes(HS, any.narrow()));
  for_each_block(heads, blocks(T), threads, workspace, [&](int64_t index, int64_t block, float *memory) {
    const int64_t row = block * kBlock, first = (index / NH * T + row) * NH * HS + index % NH * HS;
    dispatch(out, first, [&](auto *to) {
      forward_block(to, NH * HS, lse == nullptr ? nullptr : lse + index * T + row, head_at(index), index, block,
                    packed ? &*packed : nullptr, memory);
    });
  });
}

// What backward reads and writes of one head: gradients are rows of HS elements, dstride apart, from the dquery-th …
// element of `gradients` on.
struct BackwardHead {
  Head forward;
  Rows dout;
  const float *lse, *delta;
  const Destination &gradients;
  int64_t dquery, dkey, dvalue, dstride;
};

// Hands out parts of a thread's workspace; without memory, just adds up their sizes.
struct Parts {
  float *memory;
  int64_t used = 0;
  float *take(int64_t count) {
    float *const part = memory == nullptr ? nullptr : memory + used;
    used += count;
    return part;
  }
};

// A block of queries and of the gradients of their outputs, packed for either side of a product.
struct QueryBlock {
  QueryBlock(Parts &parts, const Sizes &sizes)
      : query(parts.take(sizes.rows)),
        dout(parts.take(sizes.rows)),
        query_summed(parts.take(sizes.summed)),
        dout_summed(parts.take(sizes.summed)) {}

  void pack(const BackwardHead &head, int64_t first) const {
    const Head &f = head.forward;
    const int64_t rows = block_rows(first, f.queries);
    pack_left(query, f.query.from(first), rows, f.HS, f.narrow());
    pack_left(dout, head.dout.from(first), rows, f.HS, f.narrow());
    pack_right(query_summed, f.query.from(first), f.HS, rows, f.narrow());
    pack_right(dout_summed, head.dout.from(first), f.HS, rows, f.narrow());
  }

  float *query, *dout, *query_summed, *dout_summed;
};

// A block of keys and of their values.
struct KeyBlock {
  KeyBlock(Parts &parts, const Sizes &sizes)
      : key(parts.take(sizes.across)), value(parts.take(sizes.across)), key_summed(parts.take(sizes.summed)) {}

  void pack(const BackwardHead &head, int64_t first) const {
    const Head &f = head.forward;
    const int64_t rows = block_rows(first, f.queries);
    pack_right(key, f.key.across(first), rows, f.HS, f.narrow());
    pack_right(value, f.value.across(first), rows, f.HS, f.narrow());
    pack_right(key_summed, f.key.from(first), f.HS, rows, f.narrow());
  }

  float *key, *value, *key_summed;
};

struct BackwardWorkspace {
  BackwardWorkspace(Parts &parts, int64_t HS, const Sizes &sizes)
      : probability(parts.take(kBlock * kBlock)),
        dscore(parts.take(kBlock * kBlock)),
        packed(parts.take(sizes.square)),
        first(parts.take(kBlock * HS)),
        second(parts.take(kBlock * HS)),
        keys(parts, sizes) {}

  float *probability, *dscore;  // of a pair of blocks
  float *packed;                // either of them
  float *first, *second;        // gradients of a block being summed
  KeyBlock keys;
};

// A thread's memory for whole heads: all their blocks of queries, and dQ (T,HS).
struct HeadWorkspace {
  HeadWorkspace(float *memory, int64_t T, int64_t HS, const Sizes &sizes)
      : sizes(sizes), parts{memory}, pair(parts, HS, sizes), dquery(parts.take(T * HS)), first(parts.used) {
    Parts one = {nullptr};
    QueryBlock(one, sizes);
    each = one.used;
    size = first + blocks(T) * each;
  }
  QueryBlock queries(int64_t block) const {
    Parts at = {parts.memory, first + block * each};
    return QueryBlock(at, sizes);
  }

  Sizes sizes;
  Parts parts;
  BackwardWorkspace pair;
  float *dquery;
  int64_t first, each, size;
};

// The probabilities of a pair of blocks, whose first rows are `query` and `key`, and the gradients of their scores.
void backward_pair(const BackwardWorkspace &work, const BackwardHead &head, const QueryBlock &queries, int64_t query,
                   int64_t key) {
  const Head &f = head.forward;
  const int64_t rows = block_rows(query, f.queries), columns = block_rows(key, f.queries);
  multiply_packed(work.probability, kBlock, Store::Overwrite, queries.query, work.keys.key, rows, columns, f.HS,
                  f.narrow());
  multiply_packed(work.dscore, kBlock, Store::Overwrite, queries.dout, work.keys.value, rows, columns, f.HS,
                  f.narrow());
  for (int64_t row = 0; row < rows; ++row) {
    float *const p = work.probability + row * kBlock, *const ds = work.dscore + row * kBlock;
    const int64_t count = visible(query + row, key, columns);
    const float lse = head.lse[query + row], delta = head.delta[query + row], scale = f.scale;
    std::fill(p + count, p + kBlock, kNever);
    std::fill(ds + count, ds + kBlock, 0.0f);
    for (int64_t i = 0; i < kBlock; i += kWidth) {
      const Vector probability = exp_fast(load(p + i) * scale - lse);
      store(p + i, probability);
      store(ds + i, probability * (load(ds + i) - delta) * scale);
    }
  }
}

void store_rows(const BackwardHead &head, int64_t at, const float *from, int64_t rows) {
  for (int64_t row = 0; row < rows; ++row) {
    dispatch(head.gradients, at + row * head.dstride,
             [&](auto *to) { convert(to, from + row * head.forward.HS, head.forward.HS); });
  }
}

// dK and dV of one block of keys, from all the blocks of queries that see it; queries_at(block) is one of them packed.
// Where dquery (T,HS) is not null, adds the block's share of dQ into it.
template <class QueriesAt>
void backward_keys(const BackwardWorkspace &work, float *dquery, const BackwardHead &head, int64_t block,
                   QueriesAt &&queries_at) {
  const Head &f = head.forward;
  const int64_t T = f.queries, HS = f.HS, key = block * kBlock, columns = block_rows(key, T);
  const bool narrow = f.narrow();
  work.keys.pack(head, key);
  std::fill(work.first, work.first + columns * HS, 0.0f);
  std::fill(work.second, work.second + columns * HS, 0.0f);
  for (int64_t query = key; query < T; query += kBlock) {
    const int64_t rows = block_rows(query, T);
    const QueryBlock queries = queries_at(query / kBlock);
    backward_pair(work, head, queries, query, key);
    pack_left(work.packed, transposed(work.dscore, kBlock), columns, rows, narrow);
    multiply_packed(work.first, HS, Store::Add, work.packed, queries.query_summed, columns, HS, rows, narrow);
    pack_left(work.packed, transposed(work.probability, kBlock), columns, rows, narrow);
    multiply_packed(work.second, HS, Store::Add, work.packed, queries.dout_summed, columns, HS, rows, narrow);
    if (dquery == nullptr) continue;
    pack_left(work.packed, as_is(work.dscore, kBlock), rows, columns, narrow);
    multiply_packed(dquery + query * HS, HS, Store::Add, work.packed, work.keys.key_summed, rows, HS, columns, narrow);
  }
  store_rows(head, head.dkey + key * head.dstride, work.first, columns);
  store_rows(head, head.dvalue + key * head.dstride, work.second, columns);
}

// dQ of one block of queries.
void backward_queries(const BackwardWorkspace &work, const BackwardHead &head, int64_t block,
                      const QueryBlock &queries) {
  const Head &f = head.forward;
  const int64_t HS = f.HS, query = block * kBlock, rows = block_rows(query, f.queries);
  queries.pack(head, query);
  std::fill(work.first, work.first + rows * HS, 0.0f);
  for (int64_t key = 0; key <= query; key += kBlock) {
    const int64_t columns = block_rows(key, f.queries);
    work.keys.pack(head, key);
    backward_pair(work, head, queries, query, key);
    pack_left(work.packed, as_is(work.dscore, kBlock), rows, columns, f.narrow());
    multiply_packed(work.first, HS, Store::Add, work.packed, work.keys.key_summed, rows, HS, columns, f.narrow());
  }
  store_rows(head, head.dquery + query * head.dstride, work.first, rows);
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
    const Destination o("out", out, out_dtype, {B, T, C});
    optional_tensor("lse", lse, Shape{B, NH, T});
    const Elements in("qkv", qkv, qkv_dtype, {B, T, 3, C});
    const auto head_at = [&](int64_t index) -> Head {
      const Elements query = in + index / NH * T * 3 * C + index % NH * HS;
      return {{query, 3 * C}, {query + C, 3 * C}, {query + 2 * C, 3 * C}, T, 0, HS, score_scale(HS)};
    };
    forward(o, lse, head_at, B, NH, kGrain);
  });
}

int32_t llmts_attention_backward(void *dqkv, int32_t dqkv_dtype, const void *dout, int32_t dout_dtype, const void *out,
                                 int32_t out_dtype, const float *lse, const void *qkv, int32_t qkv_dtype, int64_t B,
                                 int64_t T, int64_t C, int64_t NH) {
  return guarded("attention_backward", {{"B", B}, {"T", T}, {"C", C}, {"NH", NH, Dim::Limit}}, [&] {
    const int64_t HS = head_size(C, NH);
    const Destination d("dqkv", dqkv, dqkv_dtype, {B, T, 3, C});
    const Elements dy("dout", dout, dout_dtype, {B, T, C});
    const Elements y("out", out, out_dtype, {B, T, C});
    tensor("lse", lse, {B, NH, T});
    const Elements in("qkv", qkv, qkv_dtype, {B, T, 3, C});
    const int64_t heads = B * NH;
    const int threads = threads_for(1.0 * B * T * C * T, kGrain);

    const Scratch<float> delta({heads, T});
    const auto head_at = [&](int64_t index) -> BackwardHead {
      const int64_t b = index / NH, offset = index % NH * HS, first = b * T * 3 * C + offset;
      const Elements query = in + first;
      return {{{query, 3 * C}, {query + C, 3 * C}, {query + 2 * C, 3 * C}, T, 0, HS, score_scale(HS)},
              {dy + b * T * C + offset, C},
              lse + index * T,
              delta.data() + index * T,
              d,
              first,
              first + C,
              first + 2 * C,
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

    const Sizes sizes(HS, in.narrow);
    if (heads >= threads) {  // whole heads: each pair of blocks is visited once
      const auto carve = [&](float *memory) { return HeadWorkspace(memory, T, HS, sizes); };
      for_each_block(heads, 1, threads, carve(nullptr).size, [&](int64_t index, int64_t, float *memory) {
        const BackwardHead head = head_at(index);
        const HeadWorkspace work = carve(memory);
        for (int64_t block = 0; block < blocks(T); ++block) work.queries(block).pack(head, block * kBlock);
        std::fill(work.dquery, work.dquery + T * HS, 0.0f);
        for (int64_t block = 0; block < blocks(T); ++block)
          backward_keys(work.pair, work.dquery, head, block, [&](int64_t query) { return work.queries(query); });
        store_rows(head, head.dquery, work.dquery, T);
      });
      return;
    }
    // Fewer heads than threads: blocks of keys, then blocks of queries, each pair being visited twice.
    Parts needed = {nullptr};
    BackwardWorkspace(needed, HS, sizes);
    QueryBlock(needed, sizes);
    for_each_block(heads, blocks(T), threads, needed.used, [&](int64_t index, int64_t block, float *memory) {
      const BackwardHead head = head_at(index);
      Parts parts = {memory};
      const BackwardWorkspace work(parts, HS, sizes);
      const QueryBlock queries(parts, sizes);
      backward_keys(work, nullptr, head, blocks(T) - 1 - block, [&](int64_t query) {
        queries.pack(head, query * kBlock);
        return queries;
      });
      backward_queries(work, head, block, queries);
    });
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
    const Destination o("out", out, out_dtype, {B, T, C});
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
    const auto head_at = [&](int64_t index) -> Head {
      return {{in + index / NH * T * 3 * C + index % NH * HS, 3 * C},
              {k + index * maxT * HS, HS},
              {v + index * maxT * HS, HS},
              T,
              position,
              HS,
              score_scale(HS)};
    };
    forward(o, nullptr, head_at, B, NH, T == 1 ? kSingleGrain : kGrain);
  });
}
