// Shared by both libraries: what every exported function does at its door: check dimensions, pointers and dtypes, and
// turn whatever goes wrong inside into a status and the words for it.
#ifndef LLMTS_COMMON_DOOR_H
#define LLMTS_COMMON_DOOR_H

#include <cstdint>
#include <exception>
#include <initializer_list>
#include <new>
#include <stdexcept>
#include <string>

#define LLMTS_EXPORT __attribute__((visibility("default")))
#include "abi.h"

namespace llmts {

// Thrown inside the library; becomes `status` and a message at the boundary.
struct Failure : std::runtime_error {
  Failure(int32_t status, const std::string &message) : std::runtime_error(message), status(status) {}
  int32_t status;
};

// Throws a Failure whose message is formatted as by printf.
[[noreturn]] void fail(int32_t status, const char *format, ...) __attribute__((format(printf, 2, 3)));

// A dimension with its name. An extent of zero makes the call a no-op; a limit or a position may be zero without that.
struct Dim {
  enum Kind { Extent, Limit };
  const char *name;
  int64_t value;
  Kind kind = Extent;
};
using Dims = std::initializer_list<Dim>;
using Shape = std::initializer_list<int64_t>;

// Keeps the words of a failed call for llmts_last_error and returns its status.
int32_t report(int32_t status, const char *op, Dims dims, const char *what) noexcept;
const std::string &last_error() noexcept;

// False where an extent is zero. Throws where a dimension is negative.
bool has_work(Dims dims);

// The non-null, aligned tensor `data`, whose size in bytes is known to fit 64 bits. Throws where it is not so.
void check_tensor(const char *name, const void *data, int64_t element_bytes, Shape shape);
template <class T>
T *tensor(const char *name, T *data, Shape shape) {
  check_tensor(name, data, sizeof(T), shape);
  return data;
}

// Throws where a dtype is none of llmts_dtype.
void check_dtype(const char *name, int32_t dtype);

// A parameter that is 0 or 1, as a bool. Throws where it is neither.
bool flag(const char *name, int32_t value);

// Throws where T tokens from `position` on pass maxT.
void check_position(int64_t position, int64_t T, int64_t maxT);

// Null stays null; anything else is checked as by tensor.
template <class T, class... Rest>
auto optional_tensor(const char *name, T *data, Rest... rest) -> decltype(tensor(name, data, rest...)) {
  return data == nullptr ? nullptr : tensor(name, data, rest...);
}

// One row of llmts_adamw's segments.
struct Segment {
  int64_t first, count;
  bool decays;
};
// The index-th of them. Throws where it is not inside the n elements.
Segment segment_at(const int64_t *segments, int64_t index, int64_t n);

// Text for the caller: its first `capacity` bytes go to text, how many they are to length.
void copy_text(const std::string &from, uint8_t *text, int64_t *length, int64_t capacity);

// A JSON string.
std::string quoted(const std::string &text);

// Runs the body of an exported function where there is something to do. No exception leaves it.
template <class Body>
int32_t guarded(const char *op, Dims dims, Body &&body) noexcept {
  try {
    if (has_work(dims)) body();
    return LLMTS_OK;
  } catch (const Failure &failure) {
    return report(failure.status, op, dims, failure.what());
  } catch (const std::bad_alloc &) {
    return report(LLMTS_OUT_OF_MEMORY, op, dims, "memory could not be allocated");
  } catch (const std::exception &error) {
    return report(LLMTS_INTERNAL, op, dims, error.what());
  } catch (...) {
    return report(LLMTS_INTERNAL, op, dims, "an unknown exception was thrown");
  }
}

}  // namespace llmts

#endif
