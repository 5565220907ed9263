#include "checks.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "cuda/emulation/emulation.h"

namespace checks {

const std::initializer_list<Precisions> kPrecisions = {
    {LLMTS_FP32, LLMTS_FP32}, {LLMTS_BF16, LLMTS_BF16}, {LLMTS_BF16, LLMTS_FP32}};

namespace {

constexpr double kHalfUlpBf16 = 1.0 / 256;

int64_t element_bytes(int32_t dtype) { return dtype == LLMTS_BF16 ? 2 : 4; }

void *allocate(int64_t bytes) {
  uint64_t address = 0;
  succeeds(llmts_device_alloc(&address, bytes));
  return reinterpret_cast<void *>(address);
}

std::string last_error() {
  uint8_t text[1024];
  int64_t length = 0;
  llmts_last_error(text, &length, sizeof text);
  return std::string(reinterpret_cast<char *>(text), static_cast<size_t>(length));
}

}  // namespace

Tensor::Tensor(int32_t dtype, int64_t count)
    : data_(allocate(count * element_bytes(dtype))), dtype_(dtype), count_(count) {}

Tensor::Tensor(int32_t dtype, const Values &values) : Tensor(dtype, static_cast<int64_t>(values.size())) {
  for (size_t i = 0; i < values.size(); ++i) {
    if (dtype == LLMTS_BF16)
      static_cast<__nv_bfloat16 *>(data_)[i] = __float2bfloat16_rn(static_cast<float>(values[i]));
    else
      floats()[i] = static_cast<float>(values[i]);
  }
}

Tensor::~Tensor() {
  if (data_ != nullptr) llmts_device_free(data_);
}

Tensor::Tensor(Tensor &&other) noexcept { *this = std::move(other); }

Tensor &Tensor::operator=(Tensor &&other) noexcept {
  std::swap(data_, other.data_);
  std::swap(dtype_, other.dtype_);
  std::swap(count_, other.count_);
  return *this;
}

Values Tensor::values() const {
  Values values(static_cast<size_t>(count_));
  for (size_t i = 0; i < values.size(); ++i)
    values[i] = dtype_ == LLMTS_BF16 ? __bfloat162float(static_cast<__nv_bfloat16 *>(data_)[i]) : floats()[i];
  return values;
}

Ids::Ids(const std::vector<int32_t> &ids)
    : data_(static_cast<int32_t *>(allocate(static_cast<int64_t>(4 * ids.size())))) {
  std::memcpy(data_, ids.data(), 4 * ids.size());
}
Ids::~Ids() { llmts_device_free(data_); }

Tensor Random::normal(int32_t dtype, int64_t count, double deviation) {
  std::normal_distribution<double> distribution(0.0, deviation);
  Values values(static_cast<size_t>(count));
  for (double &value : values) value = distribution(generator_);
  return Tensor(dtype, values);
}

std::vector<int32_t> Random::ids(int64_t count, int32_t limit) {
  std::uniform_int_distribution<int32_t> distribution(0, limit - 1);
  std::vector<int32_t> ids(static_cast<size_t>(count));
  for (int32_t &id : ids) id = distribution(generator_);
  return ids;
}

void give_up(const std::string &why) { throw std::runtime_error(why); }

void succeeds(int32_t status) {
  if (status != LLMTS_OK) give_up("status " + std::to_string(status) + ": " + last_error());
}

void fails(int32_t status, int32_t expected, const char *words) {
  if (status != expected)
    give_up("status is " + std::to_string(status) + ", expected " + std::to_string(expected) + " with \"" + words +
            "\"");
  if (last_error().find(words) == std::string::npos)
    give_up("the error is \"" + last_error() + "\", expected it to have \"" + words + "\"");
}

void expect(const std::string &name, const Tensor &actual, const Values &expected, double tolerance, double relative) {
  const Values values = actual.values();
  if (values.size() != expected.size()) give_up(name + ": another number of elements");
  double squares = 0.0, differences = 0.0;
  for (size_t i = 0; i < values.size(); ++i) {
    squares += expected[i] * expected[i];
    differences += (values[i] - expected[i]) * (values[i] - expected[i]);
  }
  const double scale = std::sqrt(squares / static_cast<double>(std::max<size_t>(expected.size(), 1)));
  if (actual.dtype() == LLMTS_BF16) tolerance += kHalfUlpBf16;
  for (size_t i = 0; i < values.size(); ++i) {
    const double bound = tolerance * std::max(std::abs(expected[i]), scale);
    if (std::abs(values[i] - expected[i]) <= bound) continue;
    char text[160];
    std::snprintf(text, sizeof text, "%s[%zu] is %.9g, expected %.9g within %.2g", name.c_str(), i, values[i],
                  expected[i], bound);
    give_up(text);
  }
  if (!(std::sqrt(differences) <= relative * std::sqrt(squares)))
    give_up(name + " differs by " + std::to_string(std::sqrt(differences / squares)) + " of its norm");
}

Values plus(const Values &values, double start) {
  Values sums = values;
  for (double &value : sums) value += start;
  return sums;
}

double gelu(double x) { return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x))); }

double gelu_derivative(double x) {
  const double t = std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x));
  return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * std::sqrt(2.0 / M_PI) * (1.0 + 3 * 0.044715 * x * x);
}

Values product(int64_t rows, int64_t columns, int64_t depth, const std::function<double(int64_t, int64_t)> &a,
               const std::function<double(int64_t, int64_t)> &b) {
  Values out(static_cast<size_t>(rows * columns));
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < columns; ++j)
      for (int64_t k = 0; k < depth; ++k) out[static_cast<size_t>(i * columns + j)] += a(i, k) * b(k, j);
  return out;
}

}  // namespace checks
