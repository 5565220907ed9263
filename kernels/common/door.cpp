#include "common/door.h"

#include <algorithm>
#include <cinttypes>
#include <cstdarg>
#include <cstdio>
#include <cstring>

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

bool flag(const char *name, int32_t value) {
  if (value != 0 && value != 1) fail(LLMTS_INVALID_ARGUMENT, "%s is %d, expected 0 or 1", name, value);
  return value == 1;
}

void check_position(int64_t position, int64_t T, int64_t maxT) {
  if (position > maxT - T)
    fail(LLMTS_INVALID_ARGUMENT, "position + T is %" PRId64 " + %" PRId64 ", expected at most maxT, %" PRId64, position,
         T, maxT);
}

Segment segment_at(const int64_t *segments, int64_t index, int64_t n) {
  const int64_t first = segments[3 * index], count = segments[3 * index + 1], decays = segments[3 * index + 2];
  if (first < 0 || count < 0 || first > n || count > n - first)
    fail(LLMTS_INVALID_ARGUMENT,
         "segment %" PRId64 " is %" PRId64 " elements from %" PRId64 ", expected inside the %" PRId64 " elements",
         index, count, first, n);
  if (decays != 0 && decays != 1)
    fail(LLMTS_INVALID_ARGUMENT, "segment %" PRId64 " has weight decay %" PRId64 ", expected 0 or 1", index, decays);
  return {first, count, decays == 1};
}

void copy_text(const std::string &from, uint8_t *text, int64_t *length, int64_t capacity) {
  tensor("length", length, {1});
  const int64_t bytes = std::min<int64_t>(capacity, static_cast<int64_t>(from.size()));
  if (bytes > 0) std::memcpy(tensor("text", text, {capacity}), from.data(), static_cast<size_t>(bytes));
  *length = bytes;
}

std::string quoted(const std::string &text) {
  std::string json = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') json += '\\';
    if (static_cast<unsigned char>(c) >= 0x20) json += c;
  }
  return json + '"';
}

}  // namespace llmts
