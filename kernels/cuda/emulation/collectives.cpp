// What the last lane to come computes for its warp. Built without sanitizers: it reads and writes the stacks of other
// lanes, as registers are exchanged in hardware, and that orders no memory.
#include "cuda/emulation/emulation.h"

namespace emulation {

namespace {

template <class T>
const T &brought(const Lanes &lanes, unsigned lane) {
  return *static_cast<const T *>(lanes.in[lane]);
}

float wide(uint32_t pair, unsigned half) {
  return __bfloat162float({static_cast<uint16_t>(half == 0 ? pair : pair >> 16)});
}

void whole_warp(const Lanes &lanes, Site site, const char *name) {
  if (lanes.count != 32) violation(site, "%s in a warp of %u lanes", name, lanes.count);
}

void ldmatrix(const Lanes &lanes, Site site, bool transposed) {
  whole_warp(lanes, site, "ldmatrix");
  for (unsigned lane = 0; lane < 32; ++lane) {
    uint32_t *const out = static_cast<uint32_t *>(lanes.out[lane]);
    for (unsigned matrix = 0; matrix < 4; ++matrix) {
      uint32_t pair[2];
      for (unsigned i = 0; i < 2; ++i) {
        const unsigned major = lane / 4, minor = lane % 4 * 2 + i;
        const unsigned row = transposed ? minor : major, column = transposed ? major : minor;
        pair[i] = brought<Row>(lanes, matrix * 8 + row).element[column];
      }
      out[matrix] = pair[0] | pair[1] << 16;
    }
  }
}

}  // namespace

void shuffle(const Lanes &lanes, Site site) {
  for (unsigned lane = 0; lane < lanes.count; ++lane) {
    const int from = brought<Shuffle>(lanes, lane).lane;
    if (from < 0 || from >= static_cast<int>(lanes.count))
      violation(site, "lane %u asks for the value of lane %d in a warp of %u", lane, from, lanes.count);
    *static_cast<uint64_t *>(lanes.out[lane]) = brought<Shuffle>(lanes, static_cast<unsigned>(from)).value;
  }
}

void ballot(const Lanes &lanes, Site) {
  unsigned votes = 0;
  for (unsigned lane = 0; lane < lanes.count; ++lane)
    votes |= static_cast<unsigned>(brought<bool>(lanes, lane)) << lane;
  for (unsigned lane = 0; lane < lanes.count; ++lane) *static_cast<unsigned *>(lanes.out[lane]) = votes;
}

void mma_m16n8k16(const Lanes &lanes, Site site) {
  whole_warp(lanes, site, "mma");
  // Register r of lane l holds, with g = l / 4 and t = l % 4: of A rows g + 8 (r % 2), columns 2t + 8 (r / 2) and the
  // next; of B rows 2t + 8r and the next, column g; of C rows g + 8 (r / 2), column 2t + r % 2.
  float a[16][16], b[16][8];
  for (unsigned lane = 0; lane < 32; ++lane) {
    const Mma &in = brought<Mma>(lanes, lane);
    const unsigned g = lane / 4, t = lane % 4;
    for (unsigned i = 0; i < 2; ++i) {
      for (unsigned r = 0; r < 4; ++r) a[g + 8 * (r % 2)][2 * t + 8 * (r / 2) + i] = wide(in.a[r], i);
      for (unsigned r = 0; r < 2; ++r) b[2 * t + 8 * r + i][g] = wide(in.b[r], i);
    }
  }
  for (unsigned lane = 0; lane < 32; ++lane) {
    float *const out = static_cast<float *>(lanes.out[lane]);
    for (unsigned r = 0; r < 4; ++r) {
      const unsigned row = lane / 4 + 8 * (r / 2), column = lane % 4 * 2 + r % 2;
      float sum = brought<Mma>(lanes, lane).c[r];
      for (unsigned k = 0; k < 16; ++k) sum += a[row][k] * b[k][column];
      out[r] = sum;
    }
  }
}

void ldmatrix_x4(const Lanes &lanes, Site site) { ldmatrix(lanes, site, false); }
void ldmatrix_x4_trans(const Lanes &lanes, Site site) { ldmatrix(lanes, site, true); }

}  // namespace emulation
