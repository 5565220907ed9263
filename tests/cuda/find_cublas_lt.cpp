// Opens cuBLASLt as the library does and prints its version, or why there is none: cublas_lt_test.ts plants one.
#include <cstdio>

#include "common/door.h"
#include "cuda/cublas_lt.h"

int main() {
  try {
    std::printf("%zu\n", llmts::lt::functions().version());
    return 0;
  } catch (const llmts::Failure &failure) {
    std::printf("%s\n", failure.what());
    return 1;
  }
}
