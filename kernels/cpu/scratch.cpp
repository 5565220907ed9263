#include "cpu/scratch.h"

#include <cinttypes>
#include <cstdlib>

#include "common/block_pool.h"
#include "common/door.h"
#include "common/library.h"
#include "cpu/threads.h"

namespace llmts {

namespace {

constexpr int64_t kAlignment = 64;

void *allocate(int64_t bytes) {
  void *data = std::aligned_alloc(kAlignment, static_cast<size_t>(bytes));
  if (data != nullptr) advise_huge_pages(data, bytes);
  return data;
}

// Never destroyed: worker threads may outlive static destructors.
BlockPool &pool() {
  static BlockPool *const instance = new BlockPool(allocate, std::free);
  return *instance;
}

}  // namespace

int64_t scratch_bytes(std::initializer_list<int64_t> shape, int64_t element_bytes) {
  int64_t bytes = element_bytes;
  bool overflow = false;
  for (const int64_t extent : shape) overflow |= __builtin_mul_overflow(bytes, extent, &bytes);
  overflow |= __builtin_add_overflow(bytes, kAlignment - 1, &bytes);
  if (overflow) fail(LLMTS_OUT_OF_MEMORY, "scratch would take more bytes than 64 bits can count");
  return bytes / kAlignment * kAlignment;
}

ScratchBytes::ScratchBytes(int64_t bytes) : data_(pool().take(bytes)) {
  if (data_ == nullptr) fail(LLMTS_OUT_OF_MEMORY, "%" PRId64 " bytes of scratch could not be allocated", bytes);
}

ScratchBytes::~ScratchBytes() { pool().give_back(data_); }

void free_scratch() { pool().release_unused(); }

}  // namespace llmts
