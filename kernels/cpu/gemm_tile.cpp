// The matrix product of one thread in tiles: of fp32 operands in vector registers, of bf16 ones in what the instruction
// set has for them.
#include "cpu/gemm_tile.h"

#if defined(__AMX_BF16__) || defined(LLMTS_AMX_EMULATED)
#include "cpu/gemm_amx.h"
#endif

namespace llmts {

namespace {

using WideTile = RegisterTile<Singles>;
#if defined(__AMX_BF16__) || defined(LLMTS_AMX_EMULATED)
using NarrowTile = AmxTile;
#elif defined(__AVX512BF16__)
using NarrowTile = RegisterTile<Pairs>;
#else
using NarrowTile = WideTile;
#endif

// Calls use with a value of the tile for such operands.
template <class Use>
auto with_tile(bool narrow, Use &&use) {
  return narrow ? use(NarrowTile()) : use(WideTile());
}

}  // namespace

void multiply_blocks(float *c, int64_t ldc, Store how, View a, View b, int64_t M, int64_t N, int64_t K,
                     const Epilogue &epilogue) {
  with_tile(a.data.narrow || b.data.narrow, [&](auto tile) {
    [[maybe_unused]] const typename decltype(tile)::Session session;
    multiply_in_tiles<decltype(tile)>(c, ldc, how, a, b, M, N, K, epilogue);
  });
}

int64_t packed_left_size(int64_t M, int64_t K, bool narrow) {
  return with_tile(narrow, [&](auto tile) { return round_up(M, tile.kRows) * depth_of<decltype(tile)>(K); });
}

int64_t packed_right_size(int64_t N, int64_t K, bool narrow) {
  return with_tile(narrow, [&](auto tile) { return round_up(N, kWidth) * depth_of<decltype(tile)>(K); });
}

void pack_left(float *packed, View a, int64_t M, int64_t K, bool narrow) {
  with_tile(narrow, [&](auto tile) { pack_left_panels<decltype(tile)>(packed, a, 0, M, 0, K); });
}

void pack_right(float *packed, View b, int64_t N, int64_t K, bool narrow) {
  with_tile(narrow, [&](auto tile) {
    using Tile = decltype(tile);
    for_each_panel<Tile>(N, [&](int64_t column, int64_t columns) {
      pack_right_panel<Tile>(packed + column * depth_of<Tile>(K), b, column, columns, 0, K);
    });
  });
}

void multiply_packed(float *c, int64_t ldc, Store how, const float *a, const float *b, int64_t M, int64_t N, int64_t K,
                     bool narrow) {
  with_tile(narrow, [&](auto tile) {
    [[maybe_unused]] const typename decltype(tile)::Session session;
    multiply_packed_in_tiles<decltype(tile)>(c, ldc, how, a, b, M, N, K);
  });
}

}  // namespace llmts
