// Tensor cores by PTX: 16 × 8 products of depth 16 in bf16, summed in fp32, and the loads that fill their registers.
// With g = lane / 4 and t = lane % 4, a lane holds (PTX ISA, "Matrix Fragments for mma.m16n8k16"):
//   a[0], a[1]: rows g, g + 8, columns 2t, 2t + 1;  a[2], a[3]: the same rows, 8 columns on
//   b[0], b[1]: rows 2t, 2t + 1, and those 8 on, column g
//   d[0], d[1]: row g, columns 2t, 2t + 1;  d[2], d[3]: row g + 8
// so that two neighbouring results, packed, are the left factor of a next product.
#ifndef LLMTS_CUDA_MMA_H
#define LLMTS_CUDA_MMA_H

#include <cstdint>
#include <cstring>

#include "cuda/vector.h"

namespace llmts {

__device__ inline uint32_t pack(float low, float high) {
  const bf16 pair[2] = {__float2bfloat16_rn(low), __float2bfloat16_rn(high)};
  uint32_t bits;
  memcpy(&bits, pair, sizeof bits);
  return bits;
}

// d += a · b.
__device__ inline void mma(float (&d)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
#ifdef __CUDACC__
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, "
      "%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
#else
  const emulation::Mma in = {{a[0], a[1], a[2], a[3]}, {b0, b1}, {d[0], d[1], d[2], d[3]}};
  emulation::meet("mma", emulation::mma_m16n8k16, &in, d, 0xffffffffu, {__FILE__, __LINE__});
#endif
}

// Four 8 × 8 matrices from shared memory. Lane i brings the address of row i % 8 of matrix i / 8; of matrix m it
// receives elements 2t and 2t + 1 of row g in r[m], or of column g where transposed.
__device__ inline void load_matrices(uint32_t (&r)[4], const bf16 *row, bool transposed) {
#ifdef __CUDACC__
  const uint32_t address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  if (transposed)
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
  else
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(address)
                 : "memory");
#else
  check_aligned(row);
  emulation::Row in;
  for (int i = 0; i < 8; ++i) in.element[i] = row[i].bits;
  emulation::meet("ldmatrix", transposed ? emulation::ldmatrix_x4_trans : emulation::ldmatrix_x4, &in, r, 0xffffffffu,
                  {__FILE__, __LINE__});
#endif
}

// A row of HS elements in shared memory; the padding makes the eight rows of a matrix lie in different banks.
template <int HS>
using SharedRow = bf16[HS + 8];

// The left factor's 16 × 16 elements from row `row` and column `column` on.
template <int HS>
__device__ void load_left(uint32_t (&a)[4], const SharedRow<HS> *tile, int row, int column) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  load_matrices(a, &tile[row + lane % 16][column + lane / 16 * 8], false);
}

// The right factors of two products side by side, b[0] b[1] and b[2] b[3]: transposed rows `row` … row + 15 of the tile
// as the 16 columns, elements `column` … column + 15 as the depth.
template <int HS>
__device__ void load_right_transposed(uint32_t (&b)[4], const SharedRow<HS> *tile, int row, int column) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  load_matrices(b, &tile[row + lane % 8 + lane / 16 * 8][column + lane / 8 % 2 * 8], false);
}

// The same, rows `row` … as the depth and elements `column` … as the columns.
template <int HS>
__device__ void load_right(uint32_t (&b)[4], const SharedRow<HS> *tile, int row, int column) {
  const int lane = static_cast<int>(threadIdx.x) % 32;
  load_matrices(b, &tile[row + lane % 16][column + lane / 16 * 8], true);
}

}  // namespace llmts

#endif
