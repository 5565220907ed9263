// The library itself: description, fresh memory, and what abi_device.h adds for memory, stream and time.
// door.h says how abi_device.h exports:
// clang-format off
#include "cuda/device.h"
#include "abi_device.h"
// clang-format on

#include <algorithm>
#include <cinttypes>
#include <cstring>
#include <string>

#include "common/library.h"
#include "cuda/operand.h"
#include "cuda/product.h"

using namespace llmts;

namespace {

std::string version_words(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

struct Timer {
  cudaEvent_t start, stop;
};

Timer &timer() {
  static Timer *const made = [] {
    device();
    Timer *const fresh = new Timer;
    check(cudaEventCreate(&fresh->start), "making an event");
    check(cudaEventCreate(&fresh->stop), "making an event");
    return fresh;
  }();
  return *made;
}

}  // namespace

// "threads" are the multiprocessors: the device divides the work by itself.
std::string llmts::describe() {
  const Device &gpu = device();
  int runtime = 0, driver = 0;
  check(cudaRuntimeGetVersion(&runtime), "asking for the version of CUDA");
  check(cudaDriverGetVersion(&driver), "asking for the version of the driver");
  return "{\"device\":" + quoted(gpu.name) + ",\"variant\":" + quoted(kEmulated ? "emulated" : "cuda") +
         ",\"level\":0,\"features\":[" +
         quoted("compute capability " + std::to_string(gpu.major) + "." + std::to_string(gpu.minor)) + "," +
         quoted("CUDA " + version_words(runtime)) + "," + quoted("driver for CUDA " + version_words(driver)) +
         (tf32_allowed() ? "," + quoted("TF32") : std::string()) +
         "],\"threads\":" + std::to_string(gpu.multiprocessors) + "}";
}

// Of threads of the processor, of which this library uses none.
int32_t llmts_set_threads(int32_t threads) {
  return guarded("set_threads", {{"threads", threads, Dim::Limit}}, [] {});
}

int32_t llmts_zero(void *memory, int64_t bytes) {
  return guarded("zero", {{"bytes", bytes}}, [&] {
    tensor("memory", static_cast<uint8_t *>(memory), {bytes});
    check(cudaMemsetAsync(memory, 0, static_cast<size_t>(bytes), device().stream), "zeroing");
  });
}

// No layout of its own: cuBLASLt takes weights as they are.
int32_t llmts_packed_bytes(int64_t *bytes, int64_t OC, int64_t C) {
  return guarded("packed_bytes", {{"OC", OC, Dim::Limit}, {"C", C, Dim::Limit}},
                 [&] { *tensor("bytes", bytes, {1}) = 0; });
}

int32_t llmts_pack(void *, const void *, int32_t, int64_t OC, int64_t C) {
  return guarded("pack", {{"OC", OC, Dim::Limit}, {"C", C, Dim::Limit}},
                 [] { fail(LLMTS_UNSUPPORTED, "this library has no packed layout: llmts_packed_bytes is 0"); });
}

int32_t llmts_device_alloc(uint64_t *address, int64_t bytes) {
  return guarded("device_alloc", {{"bytes", bytes, Dim::Limit}}, [&] {
    tensor("address", address, {1});
    *address = reinterpret_cast<uintptr_t>(device_malloc(std::max<int64_t>(bytes, 1)));
  });
}

int32_t llmts_device_free(void *memory) {
  return guarded("device_free", {}, [&] {
    check(cudaStreamSynchronize(device().stream), "waiting for the GPU");
    check(cudaFree(memory), "freeing memory");
  });
}

int32_t llmts_device_upload(void *to, const void *from, int64_t bytes) {
  return guarded("device_upload", {{"bytes", bytes}}, [&] {
    upload(tensor("to", static_cast<uint8_t *>(to), {bytes}),
           tensor("from", static_cast<const uint8_t *>(from), {bytes}), bytes);
  });
}

int32_t llmts_device_download(void *to, const void *from, int64_t bytes) {
  return guarded("device_download", {{"bytes", bytes}}, [&] {
    download(tensor("to", static_cast<uint8_t *>(to), {bytes}),
             tensor("from", static_cast<const uint8_t *>(from), {bytes}), bytes);
  });
}

int32_t llmts_device_synchronize(void) {
  return guarded("device_synchronize", {}, [] { synchronize(); });
}

int32_t llmts_device_memory(int64_t *free, int64_t *total) {
  return guarded("device_memory", {}, [&] {
    tensor("free", free, {1});
    tensor("total", total, {1});
    device();
    size_t free_bytes = 0, total_bytes = 0;
    check(cudaMemGetInfo(&free_bytes, &total_bytes), "asking for the memory");
    *free = static_cast<int64_t>(free_bytes);
    *total = static_cast<int64_t>(total_bytes);
  });
}

int32_t llmts_device_allow_tf32(int32_t allowed) {
  return guarded("device_allow_tf32", {}, [&] { allow_tf32(flag("allowed", allowed)); });
}

int32_t llmts_device_timer_start(void) {
  return guarded("device_timer_start", {},
                 [] { check(cudaEventRecord(timer().start, device().stream), "starting the timer"); });
}

int32_t llmts_device_timer_stop(float *milliseconds) {
  return guarded("device_timer_stop", {}, [&] {
    tensor("milliseconds", milliseconds, {1});
    check(cudaEventRecord(timer().stop, device().stream), "stopping the timer");
    synchronize();
    check(cudaEventElapsedTime(milliseconds, timer().start, timer().stop), "reading the timer");
  });
}
