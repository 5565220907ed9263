#include "cpu/gemm.h"

#include <optional>

#include "cpu/scratch.h"
#include "cpu/threads.h"
#include "cpu/vector.h"

namespace llmts {

namespace {

// Multiplications worth waking a thread for; and of a single row, each of which waits for an element from memory.
constexpr int64_t kGrain = 1 << 20, kRowGrain = 1 << 18;

// Blocks of c: large enough that packing the operands anew for each costs little, and small enough that one which is
// stored nowhere is kept by the L3 cache.
constexpr int64_t kBlockRows = 1024, kBlockColumns = 768;

// Threads share c as a grid of slices, cut where register tiles end, or a few of AMX's do.
constexpr int64_t kRowUnit = 8, kColumnUnit = 48;

struct Grid {
  int64_t rows, columns;
};

// The grid whose largest slice takes least time: its products, and packing its share of the operands, of which one
// element takes about as long as 8 products.
Grid choose_grid(int64_t threads, int64_t M, int64_t N) {
  Grid best = {1, threads};
  int64_t best_cost = -1;
  for (int64_t rows = 1; rows <= threads; ++rows) {
    if (threads % rows != 0) continue;
    const int64_t columns = threads / rows;
    const Range r = slice(M, 0, rows, kRowUnit), c = slice(N, 0, columns, kColumnUnit);  // the first is the largest
    const int64_t height = r.end - r.begin, width = c.end - c.begin;
    const int64_t cost = height * width + 8 * (height + width);
    if (best_cost < 0 || cost < best_cost) {
      best = {rows, columns};
      best_cost = cost;
    }
  }
  return best;
}

View from_row(View a, int64_t row) { return {a.data + (a.transposed ? row : row * a.stride), a.stride, a.transposed}; }

View from_column(View b, int64_t column) {
  return {b.data + (b.transposed ? column * b.stride : column), b.stride, b.transposed};
}

// out (N) = or += x (K) · b (K,N), several columns of b at a time while their sums stay in registers.
template <class X, class B>
void combine_rows(float *out, bool add, const X *x, const B *b, int64_t stride, int64_t N, int64_t K) {
  constexpr int64_t kStep = 4 * kWidth;
  int64_t n = 0;
  for (; n + kStep <= N; n += kStep) {
    Vector sum0 = {}, sum1 = {}, sum2 = {}, sum3 = {};
    for (int64_t k = 0; k < K; ++k) {
      const B *const row = b + k * stride + n;
      const float factor = as_float(x[k]);
      sum0 += factor * load(row);
      sum1 += factor * load(row + kWidth);
      sum2 += factor * load(row + 2 * kWidth);
      sum3 += factor * load(row + 3 * kWidth);
    }
    float *const to = out + n;
    store(to, add ? load(to) + sum0 : sum0);
    store(to + kWidth, add ? load(to + kWidth) + sum1 : sum1);
    store(to + 2 * kWidth, add ? load(to + 2 * kWidth) + sum2 : sum2);
    store(to + 3 * kWidth, add ? load(to + 3 * kWidth) + sum3 : sum3);
  }
  for (; n < N; ++n) {
    float sum = 0.0f;
    for (int64_t k = 0; k < K; ++k) sum += as_float(x[k]) * as_float(b[k * stride + n]);
    out[n] = add ? out[n] + sum : sum;
  }
}

// A single row of activations, as in decoding: bound by reading b, which packing would only delay. As
// multiply_blocks() otherwise.
void multiply_row(float *out, Store store, Elements x, View b, int64_t N, int64_t K, const Epilogue &epilogue) {
  const bool add = store == Store::Add;
  std::optional<Scratch<float>> own;
  if (out == nullptr) out = own.emplace(Shape{N}).data();
  dispatch(x, [&](const auto *left) {
    dispatch(b.data, [&](const auto *right) {
      if (!b.transposed) return combine_rows(out, add, left, right, b.stride, N, K);
      for (int64_t n = 0; n < N; ++n) {
        const float sum = dot(left, right + n * b.stride, K);
        out[n] = add ? out[n] + sum : sum;
      }
    });
  });
  if (epilogue) epilogue({0, 1, 0, N, out, N});
}

// The epilogue of a part of the result that begins at (row, column).
Epilogue shifted(const Epilogue &epilogue, int64_t row, int64_t column) {
  if (!epilogue) return nullptr;
  return [&epilogue, row, column](const Block &block) {
    epilogue({row + block.row, row + block.row_end, column + block.column, column + block.column_end, block.values,
              block.stride});
  };
}

bool is_row(View a, int64_t M) { return M == 1 && !a.transposed; }

}  // namespace

void multiply(float *c, int64_t ldc, Store store, View a, View b, int64_t M, int64_t N, int64_t K) {
  if (is_row(a, M))
    multiply_row(c, store, a.data, b, N, K, nullptr);
  else
    multiply_blocks(c, ldc, store, a, b, M, N, K, nullptr);
}

void gemm(float *c, int64_t ldc, Store store, View a, View b, int64_t M, int64_t N, int64_t K,
          const Epilogue &epilogue) {
  const bool single_row = is_row(a, M);  // of the whole c: a slice's last row is no different from the others
  const int threads = threads_for(1.0 * M * N * K, single_row ? kRowGrain : kGrain);
  const Grid grid = choose_grid(threads, M, N);
  parallel(threads, [&](int part, int) {
    const Range rows = slice(M, part / grid.columns, grid.rows, kRowUnit);
    const Range columns = slice(N, part % grid.columns, grid.columns, kColumnUnit);
    for (int64_t row = rows.begin; row < rows.end; row += kBlockRows) {
      const int64_t row_end = std::min(rows.end, row + kBlockRows);
      for (int64_t column = columns.begin; column < columns.end; column += kBlockColumns) {
        const int64_t column_end = std::min(columns.end, column + kBlockColumns);
        float *const block = c == nullptr ? nullptr : c + row * ldc + column;
        const View left = from_row(a, row), right = from_column(b, column);
        const Epilogue finish = shifted(epilogue, row, column);
        if (single_row)
          multiply_row(block, store, left.data, right, column_end - column, K, finish);
        else
          multiply_blocks(block, ldc, store, left, right, row_end - row, column_end - column, K, finish);
      }
    }
  });
}

void gemm(const Destination &to, int64_t first, View a, View b, int64_t M, int64_t N, int64_t K) {
  if (!to.narrow) return gemm(to.floats() + first, N, Store::Overwrite, a, b, M, N, K);
  gemm(nullptr, N, Store::Overwrite, a, b, M, N, K, [&](const Block &block) {
    for (int64_t row = block.row; row < block.row_end; ++row)
      put(to, first + row * N + block.column, block.values + (row - block.row) * block.stride,
          block.column_end - block.column);
  });
}

}  // namespace llmts
