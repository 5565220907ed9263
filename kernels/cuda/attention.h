// Causal multi-head attention (Vaswani et al. 2017, arXiv 1706.03762), block by block with a running softmax
// (Dao 2023, arXiv 2307.08691). For each head, with S = Q · Kᵀ / sqrt(HS) and keys up to the query's own position:
//   forward:  P = softmax(S);  out = P · V;  lse = log(sum of e^S)
//   backward: P = e^(S - lse), made anew;  dV = Pᵀ · dout;  dP = dout · Vᵀ;  delta = sum of dout · out over a row
//             dS = P ⊙ (dP - delta) / sqrt(HS);  dQ = dS · K;  dK = dSᵀ · Q
// No (T,T) matrix is in memory, and nothing is summed by atomics: dQ and dK, dV come from two passes, each block of
// threads owning the rows it writes. attention_mma*.cu are for bf16 and head sizes 64, 80, 96, 128 on tensor cores,
// attention_tiled.cu for everything else, attention_decode.cu for a few queries against a cache.
#ifndef LLMTS_CUDA_ATTENTION_H
#define LLMTS_CUDA_ATTENTION_H

#include <cstdint>

#include "cuda/operand.h"

namespace llmts {

// Rows of HS elements: that of head h of sequence b at position t starts at element b · batch + h · head + t · row.
struct HeadRows {
  Operand data;
  int64_t batch, head, row;
};

// Queries stand at positions first_position, first_position + 1 …; keys and values at 0, 1 … lse (B,NH,queries).
struct AttentionForward {
  HeadRows out, query, key, value;
  float *lse;  // or null
  int64_t B, NH, HS, queries, first_position;
  float scale;
};

struct AttentionBackward {
  HeadRows dquery, dkey, dvalue, dout, query, key, value;
  const float *lse, *delta;  // (B,NH,T)
  int64_t B, NH, HS, T;
  float scale;
};

void attention_forward_tiled(const AttentionForward &attention);
void attention_backward_tiled(const AttentionBackward &attention);
void attention_decode(const AttentionForward &attention);

// On tensor cores. False where they don't take these precisions, head size, or alignment.
bool attention_forward_mma(const AttentionForward &attention);
bool attention_backward_mma(const AttentionBackward &attention);

}  // namespace llmts

#endif
