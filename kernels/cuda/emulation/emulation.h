// The part of CUDA that kernels use, on the host: a grid's blocks run one after the other on each worker thread, a
// block's threads as fibers that change places at barriers and warp collectives only. Which one runs next is drawn from
// a seed, so that code which relies on an order fails for some seed. Reported by file and line, and returned by
// cudaGetLastError: barriers that part of a block reaches, returns from or reaches elsewhere; warp collectives that
// part of a warp reaches; lanes outside the warp; misaligned accesses of 16 bytes. Shared memory starts as NaN.
//
// Built with ThreadSanitizer, each fiber is a thread of its own, and only __syncthreads and __syncwarp order memory
// between them, as on a GPU. Not seen: stream order, registers, occupancy, bank conflicts, speed, the summation order
// of tensor cores.
#ifndef LLMTS_CUDA_EMULATION_EMULATION_H
#define LLMTS_CUDA_EMULATION_EMULATION_H

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(bytes) __attribute__((aligned(bytes)))

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
};

struct __attribute__((may_alias, aligned(16))) uint4 {
  unsigned x, y, z, w;
};

struct __nv_bfloat16 {
  uint16_t bits;
};

// Initial-exec: without it each use of threadIdx in a shared library is a function call.
extern __thread uint3 threadIdx __attribute__((tls_model("initial-exec")));
extern __thread uint3 blockIdx __attribute__((tls_model("initial-exec")));
extern __thread dim3 blockDim __attribute__((tls_model("initial-exec")));
extern __thread dim3 gridDim __attribute__((tls_model("initial-exec")));

namespace emulation {

// Where in a kernel something happens.
struct Site {
  const char *file;
  int line;
};

// What the lanes of a warp bring to a collective, and where each wants its result.
struct Lanes {
  const void *in[32];
  void *out[32];
  unsigned count;  // lanes the warp has
};
using Collective = void (*)(const Lanes &lanes, Site site);

// All lanes of the warp meet here; the last to come computes the results of all. Orders no memory.
void meet(const char *name, Collective collective, const void *in, void *out, unsigned mask, Site site);

void sync_block(Site site);
void sync_warp(unsigned mask, Site site);

// Reports an error of the kernel and abandons its block.
[[noreturn]] void violation(Site site, const char *format, ...) __attribute__((format(printf, 2, 3)));

void *shared_array(const void *tag, size_t bytes);
void *dynamic_shared_array();

// Collectives; what each lane brings is a Shuffle, a bool, an Mma, a Row of 16 bytes.
struct Shuffle {
  uint64_t value;
  int lane;  // that the value is wanted of
};
void shuffle(const Lanes &lanes, Site site);

void ballot(const Lanes &lanes, Site site);

struct Mma {
  uint32_t a[4], b[2];
  float c[4];
};
// D = A · B + C, A (16,16) and B (16,8) in bf16, in the register layout of mma.sync.m16n8k16 (PTX ISA,
// section 9.7.14.5.8).
void mma_m16n8k16(const Lanes &lanes, Site site);

struct Row {
  uint16_t element[8];
};
// Four 8 × 8 matrices, lane i having brought row i % 8 of matrix i / 8: as ldmatrix.x4, plain or transposed.
void ldmatrix_x4(const Lanes &lanes, Site site);
void ldmatrix_x4_trans(const Lanes &lanes, Site site);

template <class T>
T shuffled(const char *name, T value, int lane, unsigned mask, Site site) {
  static_assert(sizeof(T) <= sizeof(uint64_t), "a register or two");
  Shuffle in = {0, lane};
  std::memcpy(&in.value, &value, sizeof value);
  uint64_t out = 0;
  meet(name, shuffle, &in, &out, mask, site);
  std::memcpy(&value, &out, sizeof value);
  return value;
}

inline void check_aligned(const void *pointer, const char *file = __builtin_FILE(), int line = __builtin_LINE()) {
  if (reinterpret_cast<uintptr_t>(pointer) % 16 != 0) violation({file, line}, "access of 16 bytes at %p", pointer);
}

// Runs a grid; `body` is the kernel bound to its arguments.
void run(dim3 grid, dim3 block, size_t shared_bytes, const std::function<void()> &body);

template <class... Parameters, class... Arguments>
void start(void (*kernel)(Parameters...), dim3 grid, dim3 block, size_t shared_bytes, void *,
           Arguments &&...arguments) {
  const std::tuple<Parameters...> bound(std::forward<Arguments>(arguments)...);
  run(grid, block, shared_bytes, [&] { std::apply(kernel, bound); });
}

// How fibers take turns: seed 0, or at the start the number in LLMTS_EMULATION_SEED, is forward; the others choose
// among the orders, see worker.cpp.
void set_seed(uint64_t seed);

}  // namespace emulation

#define CU_SHARED(type, name, dimensions) \
  using name##_type = type dimensions;    \
  static const char name##_tag = 0;       \
  auto &name = *static_cast<name##_type *>(emulation::shared_array(&name##_tag, sizeof(name##_type)))
#define CU_DYNAMIC_SHARED(type, name) type *const name = static_cast<type *>(emulation::dynamic_shared_array())

#define LLMTS_SITE const char *file = __builtin_FILE(), int line = __builtin_LINE()

inline void __syncthreads(LLMTS_SITE) { emulation::sync_block({file, line}); }
inline void __syncwarp(unsigned mask = 0xffffffffu, LLMTS_SITE) { emulation::sync_warp(mask, {file, line}); }

inline int llmts_lane() { return static_cast<int>(threadIdx.x % 32); }

template <class T>
T __shfl_sync(unsigned mask, T value, int lane, LLMTS_SITE) {
  return emulation::shuffled("__shfl_sync", value, lane, mask, {file, line});
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int bits, LLMTS_SITE) {
  return emulation::shuffled("__shfl_xor_sync", value, llmts_lane() ^ bits, mask, {file, line});
}
inline unsigned __ballot_sync(unsigned mask, bool vote, LLMTS_SITE) {
  unsigned votes = 0;
  emulation::meet("__ballot_sync", emulation::ballot, &vote, &votes, mask, {file, line});
  return votes;
}

inline int __ffs(unsigned bits) { return __builtin_ffs(static_cast<int>(bits)); }

inline int atomicCAS(int *address, int expected, int value) {
  __atomic_compare_exchange_n(address, &expected, value, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
  return expected;
}

inline int atomicAdd(int *address, int value) { return __atomic_fetch_add(address, value, __ATOMIC_RELAXED); }

inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

inline float __bfloat162float(__nv_bfloat16 value) {
  const uint32_t bits = static_cast<uint32_t>(value.bits) << 16;
  float wide;
  std::memcpy(&wide, &bits, sizeof wide);
  return wide;
}
// To nearest, ties to even; every NaN becomes 0x7fff, as in cuda_bf16.h.
inline __nv_bfloat16 __float2bfloat16_rn(float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  if (value != value) return {0x7fff};
  return {static_cast<uint16_t>((bits + 0x7fff + (bits >> 16 & 1)) >> 16)};
}

#endif
