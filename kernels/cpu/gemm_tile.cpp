// The matrix product of one thread in tiles that fit into the vector registers.
#include "cpu/gemm_tile.h"

namespace llmts {

void multiply_blocks(float *c, int64_t ldc, Store how, View a, View b, int64_t M, int64_t N, int64_t K,
                     const Epilogue &epilogue) {
#ifdef __AVX512BF16__
  if (a.data.narrow || b.data.narrow)
    return multiply_in_tiles<RegisterTile<Pairs>>(c, ldc, how, a, b, M, N, K, epilogue);
#endif
  multiply_in_tiles<RegisterTile<Singles>>(c, ldc, how, a, b, M, N, K, epilogue);
}

}  // namespace llmts
