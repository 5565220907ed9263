// The library itself: description, threads, fresh memory.
#include "common/library.h"

#include <cstring>

#include "common/door.h"
#include "cpu/cpu_info.h"
#include "cpu/threads.h"

using namespace llmts;

std::string llmts::describe() {
  std::string features;
  for (const std::string &name : processor_features()) features += (features.empty() ? "" : ",") + quoted(name);
  return "{\"device\":" + quoted(processor_name()) + ",\"variant\":" + quoted(LLMTS_VARIANT) +
         ",\"level\":" + std::to_string(x86_level()) + ",\"features\":[" + features +
         "],\"threads\":" + std::to_string(thread_count()) + "}";
}

int32_t llmts_set_threads(int32_t threads) {
  return guarded("set_threads", {{"threads", threads, Dim::Limit}}, [&] {
    if (threads > kMaxThreads)
      fail(LLMTS_INVALID_ARGUMENT, "threads is %d, expected 0 (the default) or 1 to %d", threads, kMaxThreads);
    set_thread_count(threads);
  });
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
