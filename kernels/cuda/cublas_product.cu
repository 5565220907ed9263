// Products by cuBLASLt. It is column-major: a row-major matrix is the transpose of a column-major one with the same
// stride, so that outᵀ = bᵀ · aᵀ is asked for, with b as cuBLASLt's A, and a bias along its rows.
#include <atomic>
#include <map>
#include <mutex>
#include <tuple>

#include "cuda/cublas_lt.h"
#include "cuda/device.h"
#include "cuda/product.h"

namespace llmts {

namespace {

using namespace lt;

constexpr int64_t kWorkspaceBytes = int64_t{32} << 20;  // what NVIDIA recommends for Hopper

std::atomic<bool> g_tf32{false};

void check_lt(Status status, const char *doing) {
  if (status != kSuccess) fail(LLMTS_DEVICE_ERROR, "%s: cuBLASLt returned status %d", doing, status);
}

Handle handle() {
  static const Handle made = [] {
    Handle handle = nullptr;
    check_lt(functions().create(&handle), "starting cuBLASLt");
    return handle;
  }();
  return made;
}

DataType type_of(Operand operand) { return operand.is_bf16() ? kBf16 : kFp32; }

// Owns one of cuBLASLt's objects.
template <class Object>
class Owned {
 public:
  explicit Owned(Status (*destroy)(Object)) : destroy_(destroy) {}
  ~Owned() {
    if (object_ != nullptr) destroy_(object_);
  }
  Owned(const Owned &) = delete;
  Owned &operator=(const Owned &) = delete;
  Object *address() { return &object_; }
  Object get() const { return object_; }

 private:
  Object object_ = nullptr;
  Status (*destroy_)(Object);
};

Epilogue epilogue_of(const Product &p) {
  switch (p.activation) {
    case Activation::Gelu:
      if (p.bias) return p.pre ? kGeluAuxBias : kGeluBias;
      return p.pre ? kGeluAux : kGelu;
    case Activation::GeluGradient:
      return kGeluGradient;
    default:
      return p.bias ? kBias : kDefault;
  }
}

// Types that cuBLASLt combines: equal factors, and everything else as wide as out.
bool types_fit(const Product &p) {
  if (p.a.data.dtype != p.b.data.dtype || (!p.a.data.is_bf16() && p.out.is_bf16())) return false;
  if (p.bias && p.bias.dtype != p.out.dtype) return false;
  return !p.pre || p.pre.dtype == p.out.dtype;
}

// The alignment in bytes that all pointers have, up to 256: what memory from cudaMalloc has, and cuBLASLt expects
// unless told.
uint32_t alignment_of(const Product &p) {
  uintptr_t bits = 256;
  for (const Operand &each : {p.out, p.a.data, p.b.data, p.bias, p.pre}) bits |= reinterpret_cast<uintptr_t>(each.data);
  return static_cast<uint32_t>(bits & (~bits + 1));
}

// Everything that the choice of an algorithm depends on.
using Key = std::tuple<int, int, int, int, int, uint32_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, bool>;

Key key_of(const Product &p, ComputeType compute) {
  return {p.out.dtype,     p.a.data.dtype, compute,     epilogue_of(p), p.a.transposed * 2 + p.b.transposed,
          alignment_of(p), p.rows,         p.columns,   p.depth,        p.a.stride,
          p.b.stride,      p.out_stride,   p.accumulate};
}

void describe(Description description, const Product &p) {
  const Functions &f = functions();
  const auto set = [&](DescriptionAttribute attribute, const auto &value) {
    check_lt(f.description_set(description, attribute, &value, sizeof value), "describing a product");
  };
  set(kTransA, p.b.transposed ? kTransposed : kAsIs);
  set(kTransB, p.a.transposed ? kTransposed : kAsIs);
  set(kEpilogue, epilogue_of(p));
  if (p.bias) {
    set(kBiasPointer, p.bias.data);
    set(kBiasType, type_of(p.bias));
  }
  if (p.pre) {
    set(kAuxPointer, p.pre.data);
    set(kAuxStride, p.out_stride);
    set(kAuxType, type_of(p.pre));
  }
}

// The algorithm for a product, asked for once; null where there is none.
const Heuristic *choose(const Key &key, uint32_t alignment, Description description, Layout a, Layout b, Layout out) {
  static std::mutex mutex;
  static std::map<Key, Heuristic> *const chosen = new std::map<Key, Heuristic>;
  const std::lock_guard<std::mutex> lock(mutex);
  const auto known = chosen->find(key);
  if (known != chosen->end()) return known->second.state == kSuccess ? &known->second : nullptr;
  const Functions &f = functions();
  Owned<Preference> preference(f.preference_destroy);
  check_lt(f.preference_create(preference.address()), "choosing an algorithm");
  const size_t bytes = kWorkspaceBytes;
  check_lt(f.preference_set(preference.get(), kMaxWorkspaceBytes, &bytes, sizeof bytes), "choosing an algorithm");
  for (const PreferenceAttribute matrix : {kAlignmentA, kAlignmentB, kAlignmentC, kAlignmentD})
    check_lt(f.preference_set(preference.get(), matrix, &alignment, sizeof alignment), "choosing an algorithm");
  Heuristic best = {};
  int found = 0;
  const Status status = f.heuristic(handle(), description, a, b, out, out, preference.get(), 1, &best, &found);
  if (status != kSuccess && status != kNotSupported) check_lt(status, "choosing an algorithm");
  if (status != kSuccess || found == 0) best.state = kNotSupported;
  const Heuristic &kept = (*chosen)[key] = best;
  return kept.state == kSuccess ? &kept : nullptr;
}

}  // namespace

void allow_tf32(bool allowed) { g_tf32 = allowed; }

bool tf32_allowed() { return g_tf32; }

bool multiply_by_cublas(const Product &p) {
  const Functions &f = functions();
  if (!types_fit(p)) return false;
  const ComputeType compute = !p.a.data.is_bf16() && g_tf32 ? kComputeTf32 : kComputeFp32;
  Owned<Description> description(f.description_destroy);
  check_lt(f.description_create(description.address(), compute, kFp32), "describing a product");
  describe(description.get(), p);

  // Column-major, hence rows and columns in memory's order: the contiguous extent first.
  Owned<Layout> a(f.layout_destroy), b(f.layout_destroy), out(f.layout_destroy);
  const auto layout = [&](Owned<Layout> &made, Operand data, int64_t contiguous, int64_t others, int64_t stride) {
    check_lt(f.layout_create(made.address(), type_of(data), static_cast<uint64_t>(contiguous),
                             static_cast<uint64_t>(others), stride),
             "describing a matrix");
  };
  layout(a, p.b.data, p.b.transposed ? p.depth : p.columns, p.b.transposed ? p.columns : p.depth, p.b.stride);
  layout(b, p.a.data, p.a.transposed ? p.rows : p.depth, p.a.transposed ? p.depth : p.rows, p.a.stride);
  layout(out, p.out, p.columns, p.rows, p.out_stride);

  const Heuristic *const chosen =
      choose(key_of(p, compute), alignment_of(p), description.get(), a.get(), b.get(), out.get());
  if (chosen == nullptr) return false;
  const Scratch workspace(kWorkspaceBytes);
  const float alpha = 1.0f, beta = p.accumulate ? 1.0f : 0.0f;
  void *const result = const_cast<void *>(p.out.data);
  check_lt(f.matmul(handle(), description.get(), &alpha, p.b.data.data, a.get(), p.a.data.data, b.get(), &beta, result,
                    out.get(), result, out.get(), &chosen->algorithm, workspace.as<void>(), kWorkspaceBytes,
                    device().stream),
           "multiplying");
  return true;
}

}  // namespace llmts
