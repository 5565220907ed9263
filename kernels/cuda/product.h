// The matrix product that all linear layers are made of, with what is done to its elements on the way out.
#ifndef LLMTS_CUDA_PRODUCT_H
#define LLMTS_CUDA_PRODUCT_H

#include "cuda/operand.h"

namespace llmts {

enum class Activation { Identity, Gelu, GeluGradient };

// A factor, row-major with `stride` elements from row to row; `transposed` where memory holds its transpose.
struct Factor {
  Operand data;
  int64_t stride;
  bool transposed;
};

// out (rows, columns) = activation(a (rows, depth) · b (depth, columns) + bias), or out += a · b.
struct Product {
  Operand out;
  int64_t out_stride;
  Factor a, b;
  int64_t rows, columns, depth;
  bool accumulate = false;  // fp32 out only, no bias, no activation
  Operand bias = {nullptr, LLMTS_FP32};
  Activation activation = Activation::Identity;
  // (rows, columns), as wide as out. Gelu: receives what it was applied to, or null. GeluGradient: what was; out is
  // multiplied with its derivative.
  Operand pre = {nullptr, LLMTS_FP32};
};

// By cuBLASLt, the activation in its epilogue or in a pass of its own, or by tiles where cuBLASLt has no way to do it.
// Throws Failure(LLMTS_DEVICE_ERROR) where cuBLASLt can't be loaded.
void multiply(const Product &product);

// cuBLASLt alone. False where it has no algorithm for this product.
bool multiply_by_cublas(const Product &product);

// Whether fp32 products may round their factors to TF32.
void allow_tf32(bool allowed);
bool tf32_allowed();

}  // namespace llmts

#endif
