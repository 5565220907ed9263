#include <cinttypes>
#include <mutex>

#include "common/block_pool.h"
#include "common/library.h"
#include "cuda/device.h"

namespace llmts {

namespace {

// CUDA's codes that have an answer for the user.
constexpr int kNoDevice = 100, kInsufficientDriver = 35;

Device open() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == kInsufficientDriver) {
    int runtime = 0;
    cudaRuntimeGetVersion(&runtime);
    fail(LLMTS_DEVICE_ERROR,
         "no NVIDIA driver was found, or one too old for CUDA %d.%d (cudaErrorInsufficientDriver, 35)", runtime / 1000,
         runtime % 1000 / 10);
  }
  if (error == kNoDevice || (error == cudaSuccess && count == 0))
    fail(LLMTS_DEVICE_ERROR, "the NVIDIA driver finds no GPU (cudaErrorNoDevice, 100); is CUDA_VISIBLE_DEVICES set?");
  check(error, "looking for a GPU");

  cudaDeviceProp properties;
  check(cudaGetDeviceProperties(&properties, 0), "asking what the GPU is");
  if (properties.major < 8)
    fail(LLMTS_UNSUPPORTED, "the GPU, %s, has compute capability %d.%d, expected 8.0 or later", properties.name,
         properties.major, properties.minor);
  Device gpu = {};
  gpu.name = properties.name;
  gpu.major = properties.major;
  gpu.minor = properties.minor;
  gpu.multiprocessors = properties.multiProcessorCount;
  gpu.memory_bytes = static_cast<int64_t>(properties.totalGlobalMem);
  gpu.shared_bytes = static_cast<int64_t>(properties.sharedMemPerBlockOptin);
  check(cudaStreamCreateWithFlags(&gpu.stream, cudaStreamNonBlocking), "making a stream");
  void *fault = nullptr;
  check(cudaMalloc(&fault, sizeof(IdFault)), "allocating the first bytes");
  gpu.fault = static_cast<IdFault *>(fault);
  check(cudaMemsetAsync(fault, 0, sizeof(IdFault), gpu.stream), "zeroing the first bytes");
  return gpu;
}

// An attempt, whose failure leaves no error behind.
void *try_malloc(int64_t bytes) {
  void *data = nullptr;
  if (cudaMalloc(&data, static_cast<size_t>(bytes)) == cudaSuccess) return data;
  cudaGetLastError();
  return nullptr;
}

// Never destroyed: the driver may be gone by then. Work that still uses a block is ahead on the same stream.
BlockPool &pool() {
  static BlockPool *const instance = new BlockPool(try_malloc, [](void *data) { cudaFree(data); });
  return *instance;
}

[[noreturn]] void out_of_memory(int64_t bytes) {
  size_t free = 0, total = 0;
  cudaMemGetInfo(&free, &total);
  fail(LLMTS_OUT_OF_MEMORY, "%" PRId64 " bytes could not be allocated on the GPU, %zu of its %zu are free", bytes, free,
       total);
}

}  // namespace

const Device &device() {
  static const Device *gpu = nullptr;
  static std::mutex mutex;
  const std::lock_guard<std::mutex> lock(mutex);
  if (gpu == nullptr) gpu = new Device(open());  // never destroyed: the driver may be gone by then
  return *gpu;
}

void check(cudaError_t error, const char *doing) {
  if (error == cudaSuccess) return;
  fail(error == cudaErrorMemoryAllocation ? LLMTS_OUT_OF_MEMORY : LLMTS_DEVICE_ERROR, "%s: %s (CUDA error %d)", doing,
       cudaGetErrorString(error), static_cast<int>(error));
}

void upload(void *to, const void *from, int64_t bytes) {
  check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyHostToDevice, device().stream), "uploading");
}

void synchronize() {
  const Device &gpu = device();
  IdFault fault = {};
  check(cudaMemcpyAsync(&fault, gpu.fault, sizeof fault, cudaMemcpyDeviceToHost, gpu.stream), "reading the id check");
  check(cudaStreamSynchronize(gpu.stream), "waiting for the GPU");
  if (fault.kind == kNoFault) return;
  check(cudaMemsetAsync(gpu.fault, 0, sizeof fault, gpu.stream), "resetting the id check");
  if (fault.kind == kToken)
    fail(LLMTS_INVALID_ARGUMENT,
         "an embedding before this call: token %d at row %" PRId64 " is outside the vocabulary of %" PRId64, fault.id,
         fault.row, fault.limit);
  fail(LLMTS_INVALID_ARGUMENT,
       "a classifier before this call: target %d at row %" PRId64 " is neither -1 nor in the vocabulary of %" PRId64,
       fault.id, fault.row, fault.limit);
}

void download(void *to, const void *from, int64_t bytes) {
  check(cudaMemcpyAsync(to, from, static_cast<size_t>(bytes), cudaMemcpyDeviceToHost, device().stream), "downloading");
  synchronize();
}

void *device_malloc(int64_t bytes) {
  device();
  void *data = try_malloc(bytes);
  if (data == nullptr) {
    free_scratch();
    data = try_malloc(bytes);
  }
  if (data == nullptr) out_of_memory(bytes);
  return data;
}

Scratch::Scratch(int64_t bytes) {
  device();
  data_ = pool().take(bytes);
  if (data_ == nullptr) out_of_memory(bytes);
}

Scratch::~Scratch() { pool().give_back(data_); }

void free_scratch() { pool().release_unused(); }

unsigned grid_blocks(int64_t blocks, int64_t most) {
  if (blocks > most)
    fail(LLMTS_UNSUPPORTED, "%" PRId64 " blocks of threads are needed, a grid has at most %" PRId64, blocks, most);
  return static_cast<unsigned>(blocks);
}

}  // namespace llmts
