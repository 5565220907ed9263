// bfloat16, the upper half of a float, at the door: kernels compute in fp32, so a bf16 input is widened into scratch
// before they begin and a bf16 output is narrowed out of scratch when they are done. fp32 tensors are used where they
// lie.
#ifndef LLMTS_CPU_BF16_H
#define LLMTS_CPU_BF16_H

#include <cstdint>
#include <cstring>
#include <optional>

#include "cpu/door.h"
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

// n elements, on the calling thread.
void widen(float *out, const Bf16 *in, int64_t n);
void narrow(Bf16 *out, const float *in, int64_t n);

enum class Null { Refused, Allowed };

// A tensor to read, as floats.
class Input {
 public:
  Input(const char *name, const void *data, int32_t dtype, Shape shape, Null null = Null::Refused);
  operator const float *() const { return data_; }

 private:
  std::optional<Scratch<float>> wide_;
  const float *data_ = nullptr;
};

// A tensor to write, as floats. Whoever fills it calls store() in the end.
class Output {
 public:
  Output(const char *name, void *data, int32_t dtype, Shape shape, Null null = Null::Refused);
  operator float *() const { return data_; }
  void store() const;

 private:
  std::optional<Scratch<float>> wide_;
  float *data_ = nullptr;
  Bf16 *narrow_ = nullptr;
  int64_t count_ = 0;
};

}  // namespace llmts

#endif
