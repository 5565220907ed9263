// Attention for any head size and any mix of precisions, in fp32 tiles of 64 × 64 (cuda/tile.h). A block of threads
// owns 64 rows of a head and 64 of its HS columns: a head larger than that is shared by several blocks, which each make
// the scores.
#include "cuda/attention.h"
#include "cuda/device.h"
#include "cuda/tile.h"
#include "cuda/warp.h"

namespace llmts {

namespace {

constexpr int kLanes = kTile / kEach;  // neighbouring threads that have the same rows

// HeadRows for a kernel.
template <class T>
struct Rows {
  In<T> data;
  int64_t batch, head, row;

  explicit Rows(const HeadRows &rows) : data(rows.data.in<T>()), batch(rows.batch), head(rows.head), row(rows.row) {}
  __device__ int64_t start(int64_t b, int64_t h) const { return b * batch + h * head; }

  // Rows of a head as a factor: its HS columns as the depth, or its rows.
  __device__ TileOperand<T> by_columns(int64_t b, int64_t h, int64_t rows, int64_t HS) const {
    return {data, start(b, h), row, false, rows, HS};
  }
  __device__ TileOperand<T> by_rows(int64_t b, int64_t h, int64_t rows, int64_t HS) const {
    return {data, start(b, h), row, true, HS, rows};
  }
};

template <class T>
struct OutRows {
  Out<T> data;
  int64_t batch, head, row;

  explicit OutRows(const HeadRows &rows)
      : data(rows.data.out<T>()), batch(rows.batch), head(rows.head), row(rows.row) {}

  // Stores a thread's 4 × 4 sums, row i divided by divisor[i], where they are inside.
  __device__ void store(int64_t b, int64_t h, int64_t first_row, int64_t rows, int64_t first_column, int64_t HS,
                        const float (&sums)[kEach][kEach], const float (&divisor)[kEach]) const {
    for (int i = 0; i < kEach; ++i) {
      for (int j = 0; j < kEach; ++j) {
        const int64_t r = first_row + tile_row() + i, c = first_column + tile_column() + j;
        const float value[1] = {sums[i][j] / divisor[i]};
        if (r < rows && c < HS) data.store(b * batch + h * head + r * row + c, value);
      }
    }
  }
};

// sums += tileᵀ · operand over 64 of depth, the tile being in shared memory as [depth][row].
template <class T>
__device__ void multiply_shared(float (&sums)[kEach][kEach], const TileRow *tile, TileRow *slice,
                                const TileOperand<T> &operand, int64_t column, int64_t depth) {
  for (int k = 0; k < kTile; k += kDepth) {
    __syncthreads();  // the tile is complete, the slice free
    load_tile(slice, operand, column, depth + k);
    __syncthreads();
    multiply_tiles(sums, tile + k, slice, kDepth);
  }
}

template <class T>
__global__ void __launch_bounds__(kTileThreads)
    attention_forward_tiled_kernel(OutRows<T> out, float *lse, Rows<T> query, Rows<T> key, Rows<T> value, int64_t heads,
                                   int64_t NH, int64_t queries, int64_t first_position, int64_t HS, float scale) {
  CU_SHARED(TileRow, query_slice, [kDepth]);
  CU_SHARED(TileRow, key_slice, [kDepth]);
  CU_SHARED(TileRow, probabilities, [kTile]);  // [key][query]
  const int64_t head = blockIdx.x % heads, b = head / NH, h = head % NH, blocks = gridDim.x / heads;
  const int64_t first = (blocks - 1 - blockIdx.x / heads) * kTile, column = static_cast<int64_t>(blockIdx.y) * kTile;
  const int64_t keys = first_position + (first + kTile < queries ? first + kTile : queries);
  float sums[kEach][kEach] = {}, largest[kEach], total[kEach] = {};
  for (int i = 0; i < kEach; ++i) largest[i] = -INFINITY;
  for (int64_t first_key = 0; first_key < keys; first_key += kTile) {
    float scores[kEach][kEach] = {};
    multiply_operands(scores, query_slice, key_slice, query.by_columns(b, h, queries, HS), first,
                      key.by_columns(b, h, keys, HS), first_key, HS);
    // The first key is in sight of every query, so that largest is finite from the first tile on.
    for (int i = 0; i < kEach; ++i) {
      const int64_t in_sight = first_position + first + tile_row() + i - first_key - tile_column();
      float most = largest[i], sum = 0.0f;
      for (int j = 0; j < kEach; ++j) {
        scores[i][j] = j <= in_sight ? scores[i][j] * scale : -INFINITY;
        most = fmaxf(most, scores[i][j]);
      }
      most = warp_max<kLanes>(most);
      const float correction = expf(largest[i] - most);
      for (int j = 0; j < kEach; ++j) {
        const float p = expf(scores[i][j] - most);
        probabilities[tile_column() + j][tile_row() + i] = p;
        sum += p;
        sums[i][j] *= correction;
      }
      largest[i] = most;
      total[i] = total[i] * correction + warp_sum<kLanes>(sum);
    }
    multiply_shared(sums, probabilities, key_slice, value.by_rows(b, h, keys, HS), column, first_key);
  }
  out.store(b, h, first, queries, column, HS, sums, total);
  if (lse == nullptr || blockIdx.y != 0 || tile_column() != 0) return;
  for (int i = 0; i < kEach; ++i) {
    const int64_t r = first + tile_row() + i;
    if (r < queries) lse[head * queries + r] = largest[i] + logf(total[i]);
  }
}

// Of a tile of queries and a tile of keys, thread by thread: probabilities and the gradients of scores.
template <class T>
__device__ void pair_gradients(float (&p)[kEach][kEach], float (&ds)[kEach][kEach], TileRow *a_slice, TileRow *b_slice,
                               const TileOperand<T> &query, const TileOperand<T> &key, const TileOperand<T> &dout,
                               const TileOperand<T> &value, const float *lse, const float *delta, int64_t first_query,
                               int64_t first_key, int64_t T_, int64_t HS, float scale) {
  for (int i = 0; i < kEach; ++i)
    for (int j = 0; j < kEach; ++j) p[i][j] = ds[i][j] = 0.0f;
  multiply_operands(p, a_slice, b_slice, query, first_query, key, first_key, HS);
  multiply_operands(ds, a_slice, b_slice, dout, first_query, value, first_key, HS);
  for (int i = 0; i < kEach; ++i) {
    const int64_t r = first_query + tile_row() + i;
    const float log_sum = r < T_ ? lse[r] : 0.0f, mean = r < T_ ? delta[r] : 0.0f;
    for (int j = 0; j < kEach; ++j) {
      const int64_t c = first_key + tile_column() + j;
      p[i][j] = c <= r && r < T_ ? expf(p[i][j] * scale - log_sum) : 0.0f;
      ds[i][j] = p[i][j] * (ds[i][j] - mean) * scale;
    }
  }
}

template <class T>
__global__ void __launch_bounds__(kTileThreads)
    attention_key_gradients_kernel(OutRows<T> dkey, OutRows<T> dvalue, Rows<T> dout, Rows<T> query, Rows<T> key,
                                   Rows<T> value, const float *lse, const float *delta, int64_t heads, int64_t NH,
                                   int64_t T_, int64_t HS, float scale) {
  CU_SHARED(TileRow, a_slice, [kDepth]);
  CU_SHARED(TileRow, b_slice, [kDepth]);
  CU_SHARED(TileRow, probabilities, [kTile]);  // [query][key], as dscores
  CU_SHARED(TileRow, dscores, [kTile]);
  const int64_t head = blockIdx.x % heads, b = head / NH, h = head % NH;
  const int64_t first = blockIdx.x / heads * kTile, column = static_cast<int64_t>(blockIdx.y) * kTile;
  float dk[kEach][kEach] = {}, dv[kEach][kEach] = {}, p[kEach][kEach], ds[kEach][kEach];
  for (int64_t first_query = first; first_query < T_; first_query += kTile) {
    pair_gradients(p, ds, a_slice, b_slice, query.by_columns(b, h, T_, HS), key.by_columns(b, h, T_, HS),
                   dout.by_columns(b, h, T_, HS), value.by_columns(b, h, T_, HS), lse + head * T_, delta + head * T_,
                   first_query, first, T_, HS, scale);
    for (int i = 0; i < kEach; ++i) {
      for (int j = 0; j < kEach; ++j) {
        probabilities[tile_row() + i][tile_column() + j] = p[i][j];
        dscores[tile_row() + i][tile_column() + j] = ds[i][j];
      }
    }
    multiply_shared(dv, probabilities, a_slice, dout.by_rows(b, h, T_, HS), column, first_query);
    multiply_shared(dk, dscores, b_slice, query.by_rows(b, h, T_, HS), column, first_query);
  }
  const float one[kEach] = {1.0f, 1.0f, 1.0f, 1.0f};
  dkey.store(b, h, first, T_, column, HS, dk, one);
  dvalue.store(b, h, first, T_, column, HS, dv, one);
}

template <class T>
__global__ void __launch_bounds__(kTileThreads)
    attention_query_gradients_kernel(OutRows<T> dquery, Rows<T> dout, Rows<T> query, Rows<T> key, Rows<T> value,
                                     const float *lse, const float *delta, int64_t heads, int64_t NH, int64_t T_,
                                     int64_t HS, float scale) {
  CU_SHARED(TileRow, a_slice, [kDepth]);
  CU_SHARED(TileRow, b_slice, [kDepth]);
  CU_SHARED(TileRow, dscores, [kTile]);  // [key][query]
  const int64_t head = blockIdx.x % heads, b = head / NH, h = head % NH, blocks = gridDim.x / heads;
  const int64_t first = (blocks - 1 - blockIdx.x / heads) * kTile, column = static_cast<int64_t>(blockIdx.y) * kTile;
  float dq[kEach][kEach] = {}, p[kEach][kEach], ds[kEach][kEach];
  for (int64_t first_key = 0; first_key <= first; first_key += kTile) {
    pair_gradients(p, ds, a_slice, b_slice, query.by_columns(b, h, T_, HS), key.by_columns(b, h, T_, HS),
                   dout.by_columns(b, h, T_, HS), value.by_columns(b, h, T_, HS), lse + head * T_, delta + head * T_,
                   first, first_key, T_, HS, scale);
    for (int i = 0; i < kEach; ++i)
      for (int j = 0; j < kEach; ++j) dscores[tile_column() + j][tile_row() + i] = ds[i][j];
    multiply_shared(dq, dscores, a_slice, key.by_rows(b, h, T_, HS), column, first_key);
  }
  const float one[kEach] = {1.0f, 1.0f, 1.0f, 1.0f};
  dquery.store(b, h, first, T_, column, HS, dq, one);
}

dim3 tiles(int64_t heads, int64_t rows, int64_t HS) {
  return dim3(grid_blocks(heads * ceil_div(rows, kTile)), grid_blocks(ceil_div(HS, kTile), 65535));
}

// Precisions that a kernel is compiled for: fp32, and any.
template <class F>
void with_fp32_or_any(bool fp32, F &&f) {
  if (fp32)
    f(Type<float>());
  else
    f(Type<Any>());
}

}  // namespace

void attention_forward_tiled(const AttentionForward &a) {
  bool fp32 = true;
  for (const HeadRows &rows : {a.out, a.query, a.key, a.value}) fp32 = fp32 && !rows.data.is_bf16();
  with_fp32_or_any(fp32, [&](auto type) {
    using T = typename decltype(type)::type;
    const int64_t heads = a.B * a.NH;
    launch(attention_forward_tiled_kernel<T>, tiles(heads, a.queries, a.HS), kTileThreads, 0, OutRows<T>(a.out), a.lse,
           Rows<T>(a.query), Rows<T>(a.key), Rows<T>(a.value), heads, a.NH, a.queries, a.first_position, a.HS, a.scale);
  });
}

void attention_backward_tiled(const AttentionBackward &a) {
  bool fp32 = true;
  for (const HeadRows &rows : {a.dquery, a.dkey, a.dvalue, a.dout, a.query, a.key, a.value})
    fp32 = fp32 && !rows.data.is_bf16();
  with_fp32_or_any(fp32, [&](auto type) {
    using T = typename decltype(type)::type;
    const int64_t heads = a.B * a.NH;
    const Rows<T> dout(a.dout), q(a.query), k(a.key), v(a.value);
    launch(attention_key_gradients_kernel<T>, tiles(heads, a.T, a.HS), kTileThreads, 0, OutRows<T>(a.dkey),
           OutRows<T>(a.dvalue), dout, q, k, v, a.lse, a.delta, heads, a.NH, a.T, a.HS, a.scale);
    launch(attention_query_gradients_kernel<T>, tiles(heads, a.T, a.HS), kTileThreads, 0, OutRows<T>(a.dquery), dout, q,
           k, v, a.lse, a.delta, heads, a.NH, a.T, a.HS, a.scale);
  });
}

}  // namespace llmts
