// Every matrix product whose sizes are all in 1 … MOST against plain loops:
//   matmul_sweep LIBRARY MOST fp32|bf16
// Elements are small whole numbers, so that every sum is exact in either precision, whatever its order: results have to
// be equal. Outputs start as NaN, and have one guard row behind them.
#include <dlfcn.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "abi.h"

namespace {

constexpr float kGuard = 12345.0f;

template <class Function>
Function *symbol(void *library, const char *name) {
  void *const found = dlsym(library, name);
  if (found == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    std::exit(2);
  }
  return reinterpret_cast<Function *>(found);
}

// A matrix in the run's precision, dense.
struct Matrix {
  Matrix(int rows, int columns, bool narrow) : floats(rows * columns), halves(narrow ? rows * columns : 0) {}
  void set(int at, float value) {
    floats[at] = value;
    if (!halves.empty()) {
      uint32_t bits;
      std::memcpy(&bits, &value, sizeof bits);
      halves[at] = static_cast<uint16_t>(bits >> 16);  // exact: whole numbers up to 256
    }
  }
  const void *data() const { return halves.empty() ? static_cast<const void *>(floats.data()) : halves.data(); }
  std::vector<float> floats;
  std::vector<uint16_t> halves;
};

float element(int row, int column, int salt) { return static_cast<float>((row * 7 + column * 5 + salt) * 11 % 9 - 4); }

struct Sweep {
  int most;
  int32_t dtype;
  decltype(llmts_matmul_forward) *forward;
  decltype(llmts_matmul_dinput) *dinput;
  decltype(llmts_matmul_dweight) *dweight;
  long products = 0, wrong = 0;
  std::vector<float> out;

  void prepare(int rows, int columns) {
    out.assign((rows + 1) * columns, std::numeric_limits<float>::quiet_NaN());
    std::fill(out.begin() + rows * columns, out.end(), kGuard);
  }

  // expected has `stride` columns, of which the first `columns` matter.
  void compare(const char *what, int32_t status, const std::vector<float> &expected, int stride, int rows, int columns,
               int N, int C, int OC) {
    ++products;
    bool equal = status == LLMTS_OK;
    for (int r = 0; r < rows; ++r)
      for (int c = 0; c < columns; ++c) equal = equal && out[r * columns + c] == expected[r * stride + c];
    for (int c = 0; c < columns; ++c) equal = equal && out[rows * columns + c] == kGuard;
    if (!equal && wrong++ < 10) std::printf("wrong: %s N %d C %d OC %d, status %d\n", what, N, C, OC, status);
  }

  // c (most,most) = a (most,K) · b (most,K)ᵀ.
  std::vector<float> twin(const std::vector<float> &a, const std::vector<float> &b, int K) const {
    std::vector<float> c(most * most, 0.0f);
    for (int i = 0; i < most; ++i)
      for (int j = 0; j < most; ++j)
        for (int k = 0; k < K; ++k) c[i * most + j] += a[i * K + k] * b[j * K + k];
    return c;
  }

  // All products whose inner dimension is K; the operands of the smaller are the first rows of the largest.
  void run(int K) {
    const bool narrow = dtype == LLMTS_BF16;
    Matrix a(most, K, narrow), b(most, K, narrow);
    for (int i = 0; i < most; ++i)
      for (int k = 0; k < K; ++k) {
        a.set(i * K + k, element(i, k, 1));
        b.set(i * K + k, element(i, k, 2));
      }
    const std::vector<float> expected = twin(a.floats, b.floats, K);
    for (int M = 1; M <= most; ++M) {
      // a transposed, K × M, as dweight reads it.
      Matrix at(K, M, narrow);
      for (int k = 0; k < K; ++k)
        for (int i = 0; i < M; ++i) at.set(k * M + i, element(i, k, 1));
      for (int N = 1; N <= most; ++N) {
        prepare(M, N);
        compare("forward",
                forward(out.data(), LLMTS_FP32, nullptr, LLMTS_FP32, a.data(), dtype, b.data(), dtype, nullptr, nullptr,
                        LLMTS_FP32, LLMTS_IDENTITY, M, K, N),
                expected, most, M, N, M, K, N);
        Matrix bt(K, N, narrow);
        for (int k = 0; k < K; ++k)
          for (int j = 0; j < N; ++j) bt.set(k * N + j, element(j, k, 2));
        prepare(M, N);
        compare("dinput",
                dinput(out.data(), LLMTS_FP32, a.data(), dtype, bt.data(), dtype, nullptr, LLMTS_FP32, M, N, K),
                expected, most, M, N, M, N, K);
        prepare(M, N);
        compare("dweight", dweight(out.data(), at.data(), dtype, bt.data(), dtype, 0, K, N, M), expected, most, M, N, K,
                N, M);
      }
    }
  }
};

}  // namespace

int main(int count, char **arguments) {
  if (count != 4) return 2;
  void *const library = dlopen(arguments[1], RTLD_NOW);
  if (library == nullptr) {
    std::fprintf(stderr, "%s\n", dlerror());
    return 2;
  }
  const int most = std::atoi(arguments[2]);
  const int32_t dtype = std::string(arguments[3]) == "bf16" ? LLMTS_BF16 : LLMTS_FP32;
  Sweep sweep{most,
              dtype,
              symbol<decltype(llmts_matmul_forward)>(library, "llmts_matmul_forward"),
              symbol<decltype(llmts_matmul_dinput)>(library, "llmts_matmul_dinput"),
              symbol<decltype(llmts_matmul_dweight)>(library, "llmts_matmul_dweight"),
              0,
              0,
              {}};
  for (int K = 1; K <= most; ++K) sweep.run(K);
  std::printf("%ld products, %ld wrong\n", sweep.products, sweep.wrong);
  return sweep.wrong == 0 ? 0 : 1;
}
