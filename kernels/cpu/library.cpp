// The library itself: version, errors, description, threads, scratch, fresh memory.
#include <algorithm>
#include <cinttypes>
#include <cstring>
#include <string>

#include "common/door.h"
#include "cpu/cpu_info.h"
#include "cpu/scratch.h"
#include "cpu/threads.h"

using namespace llmts;

namespace {

std::string describe() {
  std::string features;
  for (const std::string &name : processor_features()) features += (features.empty() ? "" : ",") + quoted(name);
  return "{\"device\":" + quoted(processor_name()) + ",\"variant\":" + quoted(LLMTS_VARIANT) +
         ",\"level\":" + std::to_string(x86_level()) + ",\"features\":[" + features +
         "],\"threads\":" + std::to_string(thread_count()) + "}";
}

}  // namespace

int32_t llmts_abi_version(void) { return LLMTS_ABI_VERSION; }

int32_t llmts_last_error(uint8_t *text, int64_t *length, int64_t capacity) {
  return guarded("last_error", {{"capacity", capacity, Dim::Limit}},
                 [&] { copy_text(last_error(), text, length, capacity); });
}

int32_t llmts_device_info(uint8_t *text, int64_t *length, int64_t capacity) {
  return guarded("device_info", {{"capacity", capacity, Dim::Limit}},
                 [&] { copy_text(describe(), text, length, capacity); });
}

int32_t llmts_set_threads(int32_t threads) {
  return guarded("set_threads", {{"threads", threads, Dim::Limit}}, [&] {
    if (threads > kMaxThreads)
      fail(LLMTS_INVALID_ARGUMENT, "threads is %d, expected 0 (the default) or 1 to %d", threads, kMaxThreads);
    set_thread_count(threads);
  });
}

int32_t llmts_shutdown(void) {
  return guarded("shutdown", {}, [] { free_scratch(); });
}

int32_t llmts_zero(void *memory, int64_t bytes) {
  return guarded("zero", {{"bytes", bytes}}, [&] {
    uint8_t *const data = tensor("memory", static_cast<uint8_t *>(memory), {bytes});
    advise_huge_pages(data, bytes);
    constexpr int64_t kPage = 4096, kGrain = int64_t{1} << 20;
    parallel_slices(bytes, kPage, threads_for(bytes, kGrain), [&](int64_t begin, int64_t end) {
      std::memset(data + begin, 0, static_cast<size_t>(end - begin));
    });
  });
}

int32_t llmts_alignment_gap(int64_t *bytes, const void *memory, int64_t alignment) {
  return guarded("alignment_gap", {{"alignment", alignment}}, [&] {
    if ((alignment & (alignment - 1)) != 0)
      fail(LLMTS_INVALID_ARGUMENT, "alignment is %" PRId64 ", expected a power of two", alignment);
    const uint64_t address = reinterpret_cast<uintptr_t>(tensor("memory", static_cast<const uint8_t *>(memory), {1}));
    *tensor("bytes", bytes, {1}) = static_cast<int64_t>(-address & static_cast<uint64_t>(alignment - 1));
  });
}
