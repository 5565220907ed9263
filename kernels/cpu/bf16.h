// bfloat16, the upper half of a float. Kernels compute in fp32: a bf16 input is widened where it is read (Elements), or
// into scratch before they begin (Input); a bf16 output is computed piece by piece and narrowed while the piece is in
// the cache (Destination). fp32 tensors are used where they lie.
#ifndef LLMTS_CPU_BF16_H
#define LLMTS_CPU_BF16_H

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <optional>
#include <type_traits>

#include "common/door.h"
#include "cpu/scratch.h"

namespace llmts {

// A bfloat16 as it lies in memory.
struct Bf16 {
  uint16_t bits;
};

inline float widened(Bf16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}

// Rounds to the nearest, ties to even; NaN stays NaN.
inline Bf16 narrowed(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  const uint32_t rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16, quiet = bits >> 16 | 0x40;
  return {static_cast<uint16_t>((bits & 0x7fffffff) > 0x7f800000 ? quiet : rounded)};
}

inline float as_float(float value) { return value; }
inline float as_float(int8_t value) { return value; }
inline float as_float(Bf16 value) { return widened(value); }

// out (n) = in, in another precision or the same, on the calling thread.
template <class Out, class In>
void convert(Out *out, const In *in, int64_t n) {
  if constexpr (std::is_same_v<Out, In>) {
    std::copy_n(in, n, out);
  } else if constexpr (std::is_same_v<Out, float>) {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] = widened(in[i]);
  } else {
#pragma omp simd
    for (int64_t i = 0; i < n; ++i) out[i] = narrowed(in[i]);
  }
}

enum class Null { Refused, Allowed };

// Elements to read as they lie in memory, in either precision.
struct Elements {
  Elements(const float *first) : data(first), narrow(false) {}
  Elements(const Bf16 *first) : data(first), narrow(true) {}
  // A tensor, checked.
  Elements(const char *name, const void *data, int32_t dtype, Shape shape, Null null = Null::Refused);

  const void *data;
  bool narrow;
};

// Calls use with the first element as it lies: const float * or const Bf16 *.
template <class Use>
auto dispatch(Elements elements, Use &&use) {
  return elements.narrow ? use(static_cast<const Bf16 *>(elements.data))
                         : use(static_cast<const float *>(elements.data));
}

inline Elements operator+(Elements elements, int64_t n) {
  return dispatch(elements, [n](const auto *first) { return Elements(first + n); });
}

// Elements to write, in either precision. Checked as Elements are.
struct Destination {
  Destination(const char *name, void *data, int32_t dtype, Shape shape, Null null = Null::Refused)
      : data(data), narrow(Elements(name, data, dtype, shape, null).narrow) {}
  // Where they can be computed: null where they are bf16.
  float *floats() const { return narrow ? nullptr : static_cast<float *>(data); }

  void *const data;
  const bool narrow;
};

// Calls use with the n-th element: float * or Bf16 *.
template <class Use>
void dispatch(const Destination &to, int64_t n, Use &&use) {
  if (to.narrow)
    use(static_cast<Bf16 *>(to.data) + n);
  else
    use(static_cast<float *>(to.data) + n);
}

// n elements from the first-th on as floats: where they lie, or widened into `buffer`.
inline const float *widened(Elements elements, int64_t first, int64_t n, float *buffer) {
  if (!elements.narrow) return static_cast<const float *>(elements.data) + first;
  convert(buffer, static_cast<const Bf16 *>(elements.data) + first, n);
  return buffer;
}

// The same for elements to write: who has filled them in calls put() with what this returned.
inline float *place(const Destination &to, int64_t first, float *buffer) {
  return to.narrow ? buffer : to.floats() + first;
}
inline void put(const Destination &to, int64_t first, const float *from, int64_t n) {
  if (to.narrow) convert(static_cast<Bf16 *>(to.data) + first, from, n);
}

// A tensor to read, as floats.
class Input {
 public:
  Input(const char *name, const void *data, int32_t dtype, Shape shape, Null null = Null::Refused);
  operator const float *() const { return data_; }

 private:
  std::optional<Scratch<float>> wide_;
  const float *data_ = nullptr;
};

}  // namespace llmts

#endif
