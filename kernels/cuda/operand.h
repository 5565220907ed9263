// Tensors whose precision follows the run, at the door: checked, and turned into the types that a kernel is compiled
// for.
#ifndef LLMTS_CUDA_OPERAND_H
#define LLMTS_CUDA_OPERAND_H

#include <cstdint>
#include <initializer_list>
#include <type_traits>

#include "common/door.h"
#include "cuda/vector.h"

namespace llmts {

// A checked tensor, or null.
struct Operand {
  const void *data;
  int32_t dtype;

  bool is_bf16() const { return dtype == LLMTS_BF16; }
  int64_t element_bytes() const { return is_bf16() ? 2 : 4; }
  explicit operator bool() const { return data != nullptr; }

  // The part that starts at an element.
  Operand from(int64_t index) const {
    return {data == nullptr ? nullptr : static_cast<const char *>(data) + index * element_bytes(), dtype};
  }
  template <class T>
  In<T> in() const {
    return In<T>(data, is_bf16());
  }
  template <class T>
  Out<T> out() const {
    return Out<T>(const_cast<void *>(data), is_bf16());
  }
};

inline Operand operand(const char *name, const void *data, int32_t dtype, Shape shape) {
  check_dtype(name, dtype);
  const Operand checked = {data, dtype};
  check_tensor(name, data, checked.element_bytes(), shape);
  return checked;
}

inline Operand optional_operand(const char *name, const void *data, int32_t dtype, Shape shape) {
  return data == nullptr ? Operand{nullptr, LLMTS_FP32} : operand(name, data, dtype, shape);
}

inline bool aligned16(const void *data) { return reinterpret_cast<uintptr_t>(data) % 16 == 0; }

template <class T>
struct Type {
  using type = T;
};

// Calls f(Type<T>) with the element type of all operands; those that are null don't count. Any where they differ.
template <class F>
void with_type(std::initializer_list<Operand> operands, F &&f) {
  bool fp32 = false, half = false;
  for (const Operand &each : operands) {
    fp32 = fp32 || (each && !each.is_bf16());
    half = half || (each && each.is_bf16());
  }
  if (fp32 && half)
    f(Type<Any>());
  else if (half)
    f(Type<bf16>());
  else
    f(Type<float>());
}

// Elements of T that fill whole accesses of 128 bits.
template <class T>
constexpr int kVector = 8;
template <>
constexpr int kVector<float> = 4;

// Calls f(Type<T>, width): width is kVector<T> where all operands, and the fp32 tensors `others`, start on a multiple
// of 16 bytes and rows of `columns` elements are whole vectors; else 1.
template <class F>
void with_vectors(std::initializer_list<Operand> operands, std::initializer_list<const float *> others, int64_t columns,
                  F &&f) {
  bool aligned = true;
  for (const Operand &each : operands) aligned = aligned && aligned16(each.data);
  for (const float *each : others) aligned = aligned && aligned16(each);
  with_type(operands, [&](auto type) {
    constexpr int kWidth = kVector<typename decltype(type)::type>;
    if (aligned && columns % kWidth == 0)
      f(type, std::integral_constant<int, kWidth>());
    else
      f(type, std::integral_constant<int, 1>());
  });
}

}  // namespace llmts

#endif
