// The GPU that the library uses, opened at the first call that needs it: one stream, on which everything happens in the
// order of the calls, scratch memory, and what kernels report.
#ifndef LLMTS_CUDA_DEVICE_H
#define LLMTS_CUDA_DEVICE_H

#include <cstdint>
#include <string>
#include <utility>

#include "common/door.h"
#include "cuda/platform.h"

namespace llmts {

// What a kernel found wrong with an id. The host learns of it when it next waits for the stream.
struct IdFault {
  int kind;  // IdKind; 0 while there is none
  int id;
  int64_t row, limit;
};
enum IdKind { kNoFault = 0, kToken = 1, kTarget = 2 };

// Kept where it is the first since the host last looked.
__device__ inline void report_id(IdFault *fault, int kind, int64_t row, int id, int64_t limit) {
  if (atomicCAS(&fault->kind, kNoFault, kind) != kNoFault) return;
  fault->id = id;
  fault->row = row;
  fault->limit = limit;
}

struct Device {
  cudaStream_t stream;
  IdFault *fault;  // on the device
  std::string name;
  int major, minor, multiprocessors;
  int64_t memory_bytes, shared_bytes;  // of the device, and the most that a block can have
};

// Throws Failure(LLMTS_DEVICE_ERROR) with the words for the user where there is no driver or no device, and
// Failure(LLMTS_UNSUPPORTED) where the device is older than compute capability 8.0.
const Device &device();

// Throws where `error` is one.
void check(cudaError_t error, const char *doing);

// Waits for the stream. Throws what kernels have reported since the last time.
void synchronize();

void upload(void *to, const void *from, int64_t bytes);
void download(void *to, const void *from, int64_t bytes);  // and synchronizes

// Device memory. Throws Failure(LLMTS_OUT_OF_MEMORY), which names the bytes.
void *device_malloc(int64_t bytes);

// Uninitialised device memory from a pool, in use by what is put on the stream until the destructor.
class Scratch {
 public:
  explicit Scratch(int64_t bytes);
  ~Scratch();
  Scratch(const Scratch &) = delete;
  Scratch &operator=(const Scratch &) = delete;
  template <class T>
  T *as() const {
    return static_cast<T *>(data_);
  }

 private:
  void *data_;
};

inline int64_t ceil_div(int64_t a, int64_t b) { return a / b + (a % b != 0); }

// Blocks along one axis of a grid. Throws where there would be more than a grid can have.
unsigned grid_blocks(int64_t blocks, int64_t most = 0x7fffffff);

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), dim3 grid, int threads, int64_t shared_bytes, Arguments &&...arguments) {
  const Device &gpu = device();
  constexpr int64_t kWithoutAsking = 48 << 10;
  if (shared_bytes > gpu.shared_bytes)
    fail(LLMTS_UNSUPPORTED, "a block needs %lld bytes of shared memory, the device has %lld",
         static_cast<long long>(shared_bytes), static_cast<long long>(gpu.shared_bytes));
  if (shared_bytes > kWithoutAsking)
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(shared_bytes)),
          "asking for shared memory");
  start(kernel, grid, dim3(static_cast<unsigned>(threads)), static_cast<size_t>(shared_bytes), gpu.stream,
        std::forward<Arguments>(arguments)...);
  check(cudaGetLastError(), "starting a kernel");
}

}  // namespace llmts

#endif
