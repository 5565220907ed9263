#include "cpu/door.h"

#include <cinttypes>
#include <cstdarg>
#include <cstdio>

namespace llmts {

namespace {
thread_local std::string g_last_error;
}

void fail(int32_t status, const char *format, ...) {
  char message[512];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(message, sizeof message, format, arguments);
  va_end(arguments);
  throw Failure(status, message);
}

int32_t report(int32_t status, const char *op, Dims dims, const char *what) noexcept {
  try {
    std::string words = op;
    words += '(';
    for (const Dim &dim : dims) {
      if (words.back() != '(') words += ", ";
      words += dim.name;
      words += '=';
      words += std::to_string(dim.value);
    }
    words += "): ";
    words += what;
    g_last_error = std::move(words);
  } catch (...) {
    g_last_error.clear();  // no memory for words: the status alone has to do
  }
  return status;
}

const std::string &last_error() noexcept { return g_last_error; }

bool has_work(Dims dims) {
  bool work = true;
  for (const Dim &dim : dims) {
    if (dim.value < 0) fail(LLMTS_INVALID_ARGUMENT, "%s is %" PRId64 ", expected 0 or more", dim.name, dim.value);
    if (dim.value == 0 && dim.kind == Dim::Extent) work = false;
  }
  return work;
}

void check_tensor(const char *name, const void *data, int64_t element_bytes, Shape shape) {
  int64_t bytes = element_bytes;
  for (int64_t extent : shape) {
    if (__builtin_mul_overflow(bytes, extent, &bytes))
      fail(LLMTS_INVALID_ARGUMENT, "'%s' would take more bytes than 64 bits can count", name);
  }
  if (data == nullptr) fail(LLMTS_INVALID_ARGUMENT, "'%s' is a null pointer, expected %" PRId64 " bytes", name, bytes);
  if (reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(element_bytes) != 0)
    fail(LLMTS_INVALID_ARGUMENT, "'%s' is not aligned to its elements of %" PRId64 " bytes", name, element_bytes);
}

void check_dtype(const char *name, int32_t dtype) {
  if (dtype != LLMTS_FP32 && dtype != LLMTS_BF16)
    fail(LLMTS_INVALID_ARGUMENT, "'%s' has dtype %d, expected 0 (fp32) or 1 (bf16)", name, dtype);
}

}  // namespace llmts
