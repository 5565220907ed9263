#include "cpu/bf16.h"

#include "cpu/threads.h"

namespace llmts {

namespace {

// Elements worth waking a thread for, and the slices' unit: whole cache lines.
constexpr int64_t kGrain = 65536, kUnit = 32;

// Whether a tensor is bf16. Throws where it is neither that nor fp32.
bool is_bf16(const char *name, int32_t dtype) {
  check_dtype(name, dtype);
  return dtype == LLMTS_BF16;
}

// check_tensor has seen that the product fits 64 bits.
int64_t count_of(Shape shape) {
  int64_t product = 1;
  for (int64_t extent : shape) product *= extent;
  return product;
}

}  // namespace

Elements::Elements(const char *name, const void *data, int32_t dtype, Shape shape, Null null)
    : data(data), narrow(is_bf16(name, dtype)) {
  if (data == nullptr && null == Null::Allowed) return;
  check_tensor(name, data, narrow ? sizeof(Bf16) : sizeof(float), shape);
}

Input::Input(const char *name, const void *data, int32_t dtype, Shape shape, Null null) {
  const Elements in(name, data, dtype, shape, null);
  if (data == nullptr || !in.narrow) {
    data_ = static_cast<const float *>(data);
    return;
  }
  const int64_t n = count_of(shape);
  float *const out = wide_.emplace(Shape{n}).data();
  parallel_slices(n, kUnit, threads_for(n, kGrain), [&](int64_t begin, int64_t end) {
    convert(out + begin, static_cast<const Bf16 *>(data) + begin, end - begin);
  });
  data_ = out;
}

}  // namespace llmts
