#include "cpu/int8.h"

#include <cmath>
#include <limits>
#include <optional>

#include "common/door.h"
#include "cpu/scratch.h"
#include "cpu/threads.h"
#include "cpu/vector.h"

namespace llmts {

namespace {

constexpr int64_t kLine = 64;
constexpr int64_t kGrain = 1 << 18;    // elements of a weight worth waking a thread for
constexpr int64_t kFewRows = 8;        // of x: up to here a row of the weight is multiplied as it is read
constexpr int64_t kBlockColumns = 96;  // rows of the weight that are widened at a time where x has more

// An (OC,C) weight: first the scales of its rows, then the rows, each from a multiple of kLine bytes on.
struct Layout {
  int64_t rows, stride, bytes;
};

Layout layout(int64_t OC, int64_t C) {
  Layout made;
  int64_t all_rows;
  if (__builtin_mul_overflow(OC, static_cast<int64_t>(sizeof(float)), &made.rows) ||
      __builtin_add_overflow(made.rows, kLine - 1, &made.rows) || __builtin_add_overflow(C, kLine - 1, &made.stride) ||
      __builtin_mul_overflow(OC, made.stride, &all_rows) || __builtin_add_overflow(made.rows, all_rows, &made.bytes))
    fail(LLMTS_OUT_OF_MEMORY, "the int8 weight would take more bytes than 64 bits can count");
  made.rows -= made.rows % kLine;
  made.stride -= made.stride % kLine;
  made.bytes = made.rows + OC * made.stride;
  return made;
}

// A row that isn't finite has the scale NaN, which all its products are then.
template <class T>
void quantize_row(int8_t *q, float *scale, const T *row, int64_t C) {
  float largest = 0.0f;
  bool finite = true;
  for (int64_t c = 0; c < C; ++c) {
    const float size = std::fabs(as_float(row[c]));
    largest = std::max(largest, size);
    finite = finite && std::isfinite(size);
  }
  if (!finite) {
    *scale = std::numeric_limits<float>::quiet_NaN();
    std::fill_n(q, C, int8_t{0});
    return;
  }
  *scale = largest / 127.0f;
  const float factor = largest > 0.0f ? 127.0f / largest : 0.0f;
  for (int64_t c = 0; c < C; ++c) q[c] = static_cast<int8_t>(std::lrint(as_float(row[c]) * factor));
}

}  // namespace

void multiply_int8(float *out, Elements x, const void *packed, int64_t N, int64_t C, int64_t OC,
                   const Epilogue &epilogue) {
  const Layout at = layout(OC, C);
  const float *const scales = static_cast<const float *>(packed);
  const int8_t *const rows = static_cast<const int8_t *>(packed) + at.rows;
  std::optional<Scratch<float>> own;
  if (out == nullptr) out = own.emplace(Shape{N, OC}).data();
  parallel_slices(OC, 16, threads_for(1.0 * OC * C, kGrain), [&](int64_t begin, int64_t end) {
    if (N <= kFewRows) {
      dispatch(x, [&](const auto *from) {
        for (int64_t row = begin; row < end; ++row) {
          for (int64_t n = 0; n < N; ++n)
            out[n * OC + row] = scales[row] * dot(from + n * C, rows + row * at.stride, C);
        }
      });
    } else {
      const Scratch<float> wide({kBlockColumns, C});
      for (int64_t first = begin; first < end; first += kBlockColumns) {
        const int64_t count = std::min(kBlockColumns, end - first);
        for (int64_t row = 0; row < count; ++row) {
          const int8_t *const q = rows + (first + row) * at.stride;
          for (int64_t c = 0; c < C; ++c) wide.data()[row * C + c] = static_cast<float>(q[c]) * scales[first + row];
        }
        multiply(out + first, OC, Store::Overwrite, as_is(x, C), transposed(wide.data(), C), N, count, C);
      }
    }
    if (epilogue) epilogue({0, N, begin, end, out + begin, OC});
  });
}

}  // namespace llmts

using namespace llmts;

int32_t llmts_packed_bytes(int64_t *bytes, int64_t OC, int64_t C) {
  return guarded("packed_bytes", {{"OC", OC, Dim::Limit}, {"C", C, Dim::Limit}},
                 [&] { *tensor("bytes", bytes, {1}) = layout(OC, C).bytes; });
}

int32_t llmts_pack(void *packed, const void *weight, int32_t weight_dtype, int64_t OC, int64_t C) {
  return guarded("pack", {{"OC", OC}, {"C", C}}, [&] {
    const Elements from("weight", weight, weight_dtype, {OC, C});
    const Layout to = layout(OC, C);
    int8_t *const rows = tensor("packed", static_cast<int8_t *>(packed), {to.bytes}) + to.rows;
    float *const scales = tensor("packed", static_cast<float *>(packed), {OC});
    parallel_slices(OC, 16, threads_for(1.0 * OC * C, kGrain), [&](int64_t begin, int64_t end) {
      dispatch(from, [&](const auto *data) {
        for (int64_t row = begin; row < end; ++row)
          quantize_row(rows + row * to.stride, scales + row, data + row * C, C);
      });
    });
  });
}
