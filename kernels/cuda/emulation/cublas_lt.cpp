// cuBLASLt's matmul as its documentation defines it, column-major, in plain loops: D = epilogue(op(A) · op(B) + beta ·
// C). Refuses, as cuBLASLt may, what sends the library down its other paths: bf16 with strides or addresses that are no
// multiple of 16 bytes, and fp32 with an auxiliary epilogue.
#include "cuda/cublas_lt.h"

#include <cmath>
#include <vector>

#include "cuda/emulation/emulation.h"

namespace llmts::lt {

struct HandleImpl {};
struct PreferenceImpl {
  size_t workspace_bytes = 0;
  uint32_t alignment = 256;  // the least of the four
};

struct DescriptionImpl {
  ComputeType compute = kComputeFp32;
  Operation a = kAsIs, b = kAsIs;
  Epilogue epilogue = kDefault;
  const void *bias = nullptr;
  void *aux = nullptr;
  int64_t aux_stride = 0;
  DataType bias_type = kFp32, aux_type = kFp32;
};

struct LayoutImpl {
  DataType type;
  uint64_t rows, columns;
  int64_t stride;
};

namespace {

constexpr Status kInvalidValue = 7;

float read(const void *data, DataType type, int64_t index) {
  return type == kBf16 ? __bfloat162float(static_cast<const __nv_bfloat16 *>(data)[index])
                       : static_cast<const float *>(data)[index];
}

void write(void *data, DataType type, int64_t index, float value) {
  if (type == kBf16)
    static_cast<__nv_bfloat16 *>(data)[index] = __float2bfloat16_rn(value);
  else
    static_cast<float *>(data)[index] = value;
}

double gelu(double x) { return 0.5 * x * (1.0 + std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x))); }

double gelu_gradient(double x) {
  const double t = std::tanh(std::sqrt(2.0 / M_PI) * (x + 0.044715 * x * x * x));
  return 0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * std::sqrt(2.0 / M_PI) * (1.0 + 3 * 0.044715 * x * x);
}

template <class T>
Status make(T **object) {
  *object = new T();
  return kSuccess;
}
template <class T>
Status destroy(T *object) {
  delete object;
  return kSuccess;
}

Status description_create(Description *description, ComputeType compute, DataType scale) {
  if (scale != kFp32) return kInvalidValue;
  make(description);
  (*description)->compute = compute;
  return kSuccess;
}

// To 10 bits of mantissa, as a tensor core reads fp32 for TF32.
float round_to_tf32(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  bits = (bits + 0x1000) & ~uint32_t{0x1fff};
  std::memcpy(&value, &bits, sizeof bits);
  return value;
}

template <class T>
Status store(T &field, const void *value, size_t bytes) {
  if (bytes != sizeof field) return kInvalidValue;
  std::memcpy(&field, value, bytes);
  return kSuccess;
}

Status description_set(Description d, DescriptionAttribute attribute, const void *value, size_t bytes) {
  switch (attribute) {
    case kTransA:
      return store(d->a, value, bytes);
    case kTransB:
      return store(d->b, value, bytes);
    case kEpilogue:
      return store(d->epilogue, value, bytes);
    case kBiasPointer:
      return store(d->bias, value, bytes);
    case kBiasType:
      return store(d->bias_type, value, bytes);
    case kAuxPointer:
      return store(d->aux, value, bytes);
    case kAuxStride:
      return store(d->aux_stride, value, bytes);
    case kAuxType:
      return store(d->aux_type, value, bytes);
  }
  return kInvalidValue;
}

Status layout_create(Layout *layout, DataType type, uint64_t rows, uint64_t columns, int64_t stride) {
  if (stride < static_cast<int64_t>(rows)) return kInvalidValue;
  *layout = new LayoutImpl{type, rows, columns, stride};
  return kSuccess;
}

Status preference_set(Preference preference, PreferenceAttribute attribute, const void *value, size_t bytes) {
  if (attribute == kMaxWorkspaceBytes) return store(preference->workspace_bytes, value, bytes);
  uint32_t alignment = 0;
  if (const Status status = store(alignment, value, bytes); status != kSuccess) return status;
  if (alignment < preference->alignment) preference->alignment = alignment;
  return kSuccess;
}

bool is_auxiliary(Epilogue epilogue) {
  return epilogue == kGeluAux || epilogue == kGeluAuxBias || epilogue == kGeluGradient;
}

// Whether the matrices fit each other, and the documented combinations of types.
bool fits(Description d, Layout a, Layout b, Layout c, Layout out) {
  const uint64_t m = d->a == kAsIs ? a->rows : a->columns, k = d->a == kAsIs ? a->columns : a->rows;
  const uint64_t inner = d->b == kAsIs ? b->rows : b->columns, n = d->b == kAsIs ? b->columns : b->rows;
  return m == out->rows && n == out->columns && k == inner && c->rows == m && c->columns == n && a->type == b->type &&
         c->type == out->type && (a->type == kBf16 || out->type == kFp32);
}

Status heuristic(Handle, Description d, Layout a, Layout b, Layout c, Layout out, Preference preference, int wanted,
                 Heuristic *best, int *found) {
  *found = 0;
  if (wanted < 1 || !fits(d, a, b, c, out)) return kInvalidValue;
  for (const Layout each : {a, b, c, out}) {
    if (a->type == kBf16 && each->stride * (each->type == kBf16 ? 2 : 4) % 16 != 0) return kNotSupported;
  }
  if (a->type == kBf16 && preference->alignment < 16) return kNotSupported;
  if (is_auxiliary(d->epilogue) && a->type == kFp32) return kNotSupported;
  *best = {};
  *found = 1;
  return kSuccess;
}

Status matmul(Handle, Description d, const void *alpha, const void *a, Layout a_layout, const void *b, Layout b_layout,
              const void *beta, const void *c, Layout c_layout, void *out, Layout out_layout, const Algorithm *, void *,
              size_t, cudaStream_t) {
  if (!fits(d, a_layout, b_layout, c_layout, out_layout) || *static_cast<const float *>(alpha) != 1.0f)
    return kInvalidValue;
  if (is_auxiliary(d->epilogue) && (d->aux == nullptr || d->aux_stride < static_cast<int64_t>(out_layout->rows)))
    return kInvalidValue;
  const float keep = *static_cast<const float *>(beta);
  const int64_t m = static_cast<int64_t>(out_layout->rows), n = static_cast<int64_t>(out_layout->columns);
  const int64_t depth = static_cast<int64_t>(d->a == kAsIs ? a_layout->columns : a_layout->rows);
  // Both factors as (rows, depth), so that the inner loop runs over neighbours.
  std::vector<float> left(static_cast<size_t>(m * depth)), right(static_cast<size_t>(n * depth));
  for (int64_t i = 0; i < m; ++i)
    for (int64_t k = 0; k < depth; ++k)
      left[static_cast<size_t>(i * depth + k)] =
          read(a, a_layout->type, d->a == kAsIs ? k * a_layout->stride + i : i * a_layout->stride + k);
  for (int64_t j = 0; j < n; ++j)
    for (int64_t k = 0; k < depth; ++k)
      right[static_cast<size_t>(j * depth + k)] =
          read(b, b_layout->type, d->b == kAsIs ? j * b_layout->stride + k : k * b_layout->stride + j);
  if (d->compute == kComputeTf32) {
    for (std::vector<float> *const factor : {&left, &right})
      for (float &value : *factor) value = round_to_tf32(value);
  }
  const bool biased = d->epilogue == kBias || d->epilogue == kGeluBias || d->epilogue == kGeluAuxBias;
  for (int64_t j = 0; j < n; ++j) {
    for (int64_t i = 0; i < m; ++i) {
      const float *const x = left.data() + i * depth, *const y = right.data() + j * depth;
      float sum = 0.0f;
#pragma omp simd reduction(+ : sum)
      for (int64_t k = 0; k < depth; ++k) sum += x[k] * y[k];
      if (keep != 0.0f) sum += keep * read(c, c_layout->type, j * c_layout->stride + i);
      if (biased) sum += read(d->bias, d->bias_type, i);
      const int64_t aux = j * d->aux_stride + i;
      if (d->epilogue == kGeluAux || d->epilogue == kGeluAuxBias) write(d->aux, d->aux_type, aux, sum);
      if (d->epilogue == kGeluGradient) sum *= static_cast<float>(gelu_gradient(read(d->aux, d->aux_type, aux)));
      if ((d->epilogue & kGelu) != 0) sum = static_cast<float>(gelu(sum));
      write(out, out_layout->type, j * out_layout->stride + i, sum);
    }
  }
  return kSuccess;
}

}  // namespace

const Functions &functions() {
  static const Functions emulated = {make<HandleImpl>,
                                     [] { return size_t{130000}; },
                                     description_create,
                                     destroy<DescriptionImpl>,
                                     description_set,
                                     layout_create,
                                     destroy<LayoutImpl>,
                                     make<PreferenceImpl>,
                                     destroy<PreferenceImpl>,
                                     preference_set,
                                     heuristic,
                                     matmul};
  return emulated;
}

}  // namespace llmts::lt
