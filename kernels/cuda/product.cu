#include "cuda/device.h"
#include "cuda/elementwise.h"
#include "cuda/product.h"
#include "cuda/tile.h"
#include "cuda/warp.h"

namespace llmts {

namespace {

// Two blocks a multiprocessor: without the hint ptxas spills for sm_90.
__global__ void __launch_bounds__(kTileThreads, 2)
    product_kernel(Out<Any> out, int64_t out_stride, TileOperand<Any> a, TileOperand<Any> b, int64_t depth,
                   bool accumulate, In<Any> bias, Out<Any> pre, Activation activation) {
  CU_SHARED(TileRow, a_slice, [kDepth]);
  CU_SHARED(TileRow, b_slice, [kDepth]);
  const int64_t row = static_cast<int64_t>(blockIdx.y) * kTile, column = static_cast<int64_t>(blockIdx.x) * kTile;
  float sum[kEach][kEach] = {};
  multiply_operands(sum, a_slice, b_slice, a, row, b, column, depth);
  for (int i = 0; i < kEach; ++i) {
    for (int j = 0; j < kEach; ++j) {
      const int64_t r = row + tile_row() + i, c = column + tile_column() + j, index = r * out_stride + c;
      if (r >= a.rows || c >= b.rows) continue;
      float value[1] = {sum[i][j]};
      if (accumulate) value[0] += out.read().at(index);
      if (bias.data != nullptr) value[0] += bias.at(c);
      if (activation == Activation::Gelu) {
        if (pre.data != nullptr) {
          pre.store(index, value);
          value[0] = pre.read().at(index);
        }
        value[0] = gelu(value[0]);
      } else if (activation == Activation::GeluGradient) {
        value[0] *= gelu_derivative(pre.read().at(index));
      }
      out.store(index, value);
    }
  }
}

void multiply_by_tiles(const Product &p) {
  const auto side = [](const Factor &factor, bool across, int64_t rows, int64_t depth) {
    return TileOperand<Any>{factor.data.in<Any>(), 0, factor.stride, across, rows, depth};
  };
  const dim3 grid(grid_blocks(ceil_div(p.columns, kTile)), grid_blocks(ceil_div(p.rows, kTile), 65535));
  launch(product_kernel, grid, kTileThreads, 0, p.out.out<Any>(), p.out_stride,
         side(p.a, p.a.transposed, p.rows, p.depth), side(p.b, !p.b.transposed, p.columns, p.depth), p.depth,
         p.accumulate, p.bias.in<Any>(), p.pre.out<Any>(), p.activation);
}

// Fused activations pay from Hopper on; before it cuBLASLt is faster with a pass of its own (measured by the authors of
// llm.c, whose default this is).
constexpr int kFusedActivation = 9;

}  // namespace

void multiply(const Product &p) {
  if (p.activation == Activation::Identity) {
    if (!multiply_by_cublas(p)) multiply_by_tiles(p);
    return;
  }
  if (device().major >= kFusedActivation && multiply_by_cublas(p)) return;
  // The activation in a second pass, over the product in out, or in pre where that is wanted anyway.
  Product plain = p;
  plain.activation = Activation::Identity;
  plain.pre = {nullptr, LLMTS_FP32};
  const bool forward = p.activation == Activation::Gelu;
  if (forward && p.pre) plain.out = p.pre;
  if (p.out_stride != p.columns || !multiply_by_cublas(plain)) {
    multiply_by_tiles(p);
  } else if (forward) {
    gelu_forward(p.out, plain.out, p.rows * p.columns);
  } else {
    gelu_backward(p.out, p.out, p.pre, p.rows * p.columns);
  }
}

}  // namespace llmts
