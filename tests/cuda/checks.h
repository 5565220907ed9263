// Checks of the kernels through their ABI, run by the emulation (kernels/cuda/emulation): inputs are random, outputs
// start as NaN, and what comes out is compared with the plainest loops in double precision.
#ifndef LLMTS_TESTS_CUDA_CHECKS_H
#define LLMTS_TESTS_CUDA_CHECKS_H

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <random>
#include <string>
#include <vector>

#include "abi_device.h"

namespace checks {

using Values = std::vector<double>;

// A tensor on the emulated device, where the host can read it too.
class Tensor {
 public:
  Tensor() = default;
  Tensor(int32_t dtype, int64_t count);
  // As rounded to its precision.
  Tensor(int32_t dtype, const Values &values);
  ~Tensor();
  Tensor(Tensor &&other) noexcept;
  Tensor &operator=(Tensor &&other) noexcept;
  Tensor(const Tensor &) = delete;

  void *data() const { return data_; }
  float *floats() const { return static_cast<float *>(data_); }
  int32_t dtype() const { return dtype_; }
  int64_t count() const { return count_; }
  Values values() const;

 private:
  void *data_ = nullptr;
  int32_t dtype_ = LLMTS_FP32;
  int64_t count_ = 0;
};

// Token ids or targets on the emulated device.
class Ids {
 public:
  explicit Ids(const std::vector<int32_t> &ids);
  ~Ids();
  Ids(const Ids &) = delete;
  const int32_t *data() const { return data_; }

 private:
  int32_t *data_;
};

// What is random in a case, the same at each run.
class Random {
 public:
  explicit Random(unsigned seed) : generator_(seed) {}
  Tensor normal(int32_t dtype, int64_t count, double deviation = 1.0);
  std::vector<int32_t> ids(int64_t count, int32_t limit);

 private:
  std::mt19937 generator_;
};

// Fails the case where a call did not succeed, or not as expected.
void succeeds(int32_t status);
void fails(int32_t status, int32_t expected, const char *words);

// Fails the case where a value is further off than `tolerance`, relative to the larger of the value and the tensor's
// root mean square (a bf16 tensor's own rounding comes on top), or where the whole differs by more than `relative` in
// its norm.
void expect(const std::string &name, const Tensor &actual, const Values &expected, double tolerance,
            double relative = 1.0);

// Fails the case.
[[noreturn]] void give_up(const std::string &why);

// Each value, and `start` more.
Values plus(const Values &values, double start);

double gelu(double x);
double gelu_derivative(double x);

// (rows, columns) = a (rows, depth) · b (depth, columns), elements by function.
Values product(int64_t rows, int64_t columns, int64_t depth, const std::function<double(int64_t, int64_t)> &a,
               const std::function<double(int64_t, int64_t)> &b);

// A named case, for main.
struct Case {
  const char *name;
  void (*run)();
};
std::vector<Case> row_cases();
std::vector<Case> product_cases();
std::vector<Case> attention_cases();
std::vector<Case> emulation_cases();

// The precisions that cases go through: all fp32, all bf16, and activations in bf16 with weights in fp32.
struct Precisions {
  int32_t activation, weight;
};
extern const std::initializer_list<Precisions> kPrecisions;

}  // namespace checks

#endif
