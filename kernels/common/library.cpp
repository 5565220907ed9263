// The functions that are the same in both libraries: version, errors, description, alignment, shutting down.
#include "common/library.h"

#include <cinttypes>

#include "common/door.h"

using namespace llmts;

int32_t llmts_abi_version(void) { return LLMTS_ABI_VERSION; }

int32_t llmts_last_error(uint8_t *text, int64_t *length, int64_t capacity) {
  return guarded("last_error", {{"capacity", capacity, Dim::Limit}},
                 [&] { copy_text(last_error(), text, length, capacity); });
}

int32_t llmts_device_info(uint8_t *text, int64_t *length, int64_t capacity) {
  return guarded("device_info", {{"capacity", capacity, Dim::Limit}},
                 [&] { copy_text(describe(), text, length, capacity); });
}

int32_t llmts_shutdown(void) {
  return guarded("shutdown", {}, [] { free_scratch(); });
}

int32_t llmts_alignment_gap(int64_t *bytes, const void *memory, int64_t alignment) {
  return guarded("alignment_gap", {{"alignment", alignment}}, [&] {
    if ((alignment & (alignment - 1)) != 0)
      fail(LLMTS_INVALID_ARGUMENT, "alignment is %" PRId64 ", expected a power of two", alignment);
    const uint64_t address = reinterpret_cast<uintptr_t>(tensor("memory", static_cast<const uint8_t *>(memory), {1}));
    *tensor("bytes", bytes, {1}) = static_cast<int64_t>(-address & static_cast<uint64_t>(alignment - 1));
  });
}
