#include "cuda/emulation/runtime_api.h"

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

#include "cuda/emulation/launch.h"

namespace {

// A small device, so that tests of a few hundred rows already work in several chunks.
constexpr size_t kTotalMemory = size_t{128} << 20;

struct Memory {
  std::mutex mutex;
  std::map<void *, size_t> blocks;
  size_t used = 0;
};

Memory &memory_in_use() {
  static Memory *instance = new Memory;
  return *instance;
}

std::string &last_report() {
  static thread_local std::string *text = new std::string;
  return *text;
}

}  // namespace

struct CUevent_st {
  std::chrono::steady_clock::time_point time;
};

const char *cudaGetErrorString(cudaError_t error) {
  switch (error) {
    case cudaSuccess:
      return "no error";
    case cudaErrorMemoryAllocation:
      return "out of memory";
    case cudaErrorLaunchFailure:
      return last_report().c_str();
    case cudaErrorNoDevice:
      return "no CUDA-capable device is detected";
    case cudaErrorInsufficientDriver:
      return "CUDA driver version is insufficient for CUDA runtime version";
    default:
      return "invalid argument";
  }
}

cudaError_t cudaGetLastError() {
  std::string report = emulation::take_report();
  if (report.empty()) return cudaSuccess;
  last_report() = std::move(report);
  return cudaErrorLaunchFailure;
}

cudaError_t cudaGetDeviceCount(int *count) {
  *count = 1;
  return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int) {
  *properties = {"emulated", kTotalMemory, 99 << 10, 9, 0, 4};
  return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version) {
  *version = 13000;
  return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) { return cudaRuntimeGetVersion(version); }

cudaError_t cudaMalloc(void **memory, size_t bytes) {
  Memory &all = memory_in_use();
  const std::lock_guard<std::mutex> lock(all.mutex);
  if (bytes > kTotalMemory - all.used) return cudaErrorMemoryAllocation;
  // Under AddressSanitizer what lies beyond the last byte faults: no rounding up.
  if (posix_memalign(memory, 256, bytes) != 0) return cudaErrorMemoryAllocation;
  std::memset(*memory, 0xff, bytes);
  all.blocks[*memory] = bytes;
  all.used += bytes;
  return cudaSuccess;
}

cudaError_t cudaFree(void *memory) {
  Memory &all = memory_in_use();
  const std::lock_guard<std::mutex> lock(all.mutex);
  const auto block = all.blocks.find(memory);
  if (block == all.blocks.end()) return memory == nullptr ? cudaSuccess : cudaErrorInvalidValue;
  all.used -= block->second;
  all.blocks.erase(block);
  std::free(memory);
  return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free, size_t *total) {
  Memory &all = memory_in_use();
  const std::lock_guard<std::mutex> lock(all.mutex);
  *free = kTotalMemory - all.used;
  *total = kTotalMemory;
  return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind, cudaStream_t) {
  std::memcpy(to, from, bytes);
  return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *memory, int value, size_t bytes, cudaStream_t) {
  std::memset(memory, value, bytes);
  return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned) {
  *stream = nullptr;
  return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t) { return cudaSuccess; }

cudaError_t cudaEventCreate(cudaEvent_t *event) {
  *event = new CUevent_st;
  return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t) {
  event->time = std::chrono::steady_clock::now();
  return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t) { return cudaSuccess; }

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t stop) {
  *milliseconds = std::chrono::duration<float, std::milli>(stop->time - start->time).count();
  return cudaSuccess;
}
