// The forward product where the weights are −1, 0 and 1: int8 in, int32 sums, as exact as the f32 ones it stands for.
#pragma once

#include "tiles.h"

#if defined(__AVX512VNNI__) || (defined(__AVX2__) && !defined(__AVX512F__))
#include <immintrin.h>
#define BITZERO_INTEGERS
#endif

namespace {

constexpr int kFour = 4;       // bytes of a lane, which are summed in one instruction
constexpr int kOffset = 128;   // what makes the integers of a row unsigned, as that instruction wants them

#ifdef BITZERO_INTEGERS
constexpr bool kIntegers = true;
#ifdef __AVX512VNNI__
Ints dot(Ints sum, Ints a, Ints b) { return (Ints)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)a, (__m512i)b); }
#else
// Pairs of products are at most 2·255: 16 bits hold them.
Ints dot(Ints sum, Ints a, Ints b) {
  __m256i pairs = _mm256_maddubs_epi16((__m256i)a, (__m256i)b);
  return sum + (Ints)_mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
}
#endif
#else
constexpr bool kIntegers = false;
Ints dot(Ints sum, Ints, Ints) { return sum; }
#endif

// Codes [n, k] as panels of bytes, four of a row in each lane, and what the offset adds to each sum, negated.
struct Ternary {
  long n = 0, k = 0;
  std::vector<int32_t> panels, start;

  // False where a code is none of −1, 0, 1: then the panels mean nothing.
  bool read(const float* codes, long rows, long depth) {
    n = rows, k = depth;
    panels.resize(n * k / kFour);
    start.resize(n);
    bool ternary = true;
    for (long row = 0; row < n; row++) {
      const float* from = codes + row * k;
      int8_t* to = reinterpret_cast<int8_t*>(panels.data() + row / kTileCols * kTileCols * k / kFour) +
                   row % kTileCols * kFour;
      int sum = 0;
      for (long p = 0; p < k; p += kFour, to += kTileCols * kFour)
        for (int i = 0; i < kFour; i++) {
          float code = from[p + i];
          ternary &= code * code * code == code;
          to[i] = (int8_t)code;
          sum += to[i];
        }
      start[row] = -kOffset * sum;
    }
    return ternary;
  }
  // y = a·codesᵀ·scale·delta of kRows rows of bytes, a panel of columns.
  template <int kRows>
  void tile(const uint8_t* __restrict a, long col, const float* scale, const float* delta, float* __restrict y) const {
    Ints sum[kRows][kVectors];
    const int32_t *panel = panels.data() + col * k / kFour, *words = reinterpret_cast<const int32_t*>(a);
    for (int i = 0; i < kRows; i++)
      for (int v = 0; v < kVectors; v++) sum[i][v] = *reinterpret_cast<const Ints*>(&start[col + v * kLanes]);
    for (long p = 0; p < k / kFour; p++) {
      Ints row[kVectors];
      for (int v = 0; v < kVectors; v++) row[v] = *reinterpret_cast<const Ints*>(panel + p * kTileCols + v * kLanes);
#pragma GCC unroll 12
      for (int i = 0; i < kRows; i++) {
        Ints x = Ints{} + words[i * k / kFour + p];
#pragma GCC unroll 2
        for (int v = 0; v < kVectors; v++) sum[i][v] = dot(sum[i][v], x, row[v]);
      }
    }
    for (int i = 0; i < kRows; i++)
      for (int v = 0; v < kVectors; v++)
        store(y + i * n + col + v * kLanes,
              __builtin_convertvector(sum[i][v], Vec) * (load(scale + col + v * kLanes) * delta[i]));
  }
  void product(const uint8_t* a, long rows, const float* scale, const float* delta, float* y) const {
    for (long col = 0; col < n; col += kTileCols) {
      long i = 0;
      for (; rows - i >= kTallest; i += kTallest) tile<kTallest>(a + i * k, col, scale, delta + i, y + i * n);
      for (; rows - i >= kTileRows; i += kTileRows) tile<kTileRows>(a + i * k, col, scale, delta + i, y + i * n);
      for (; i < rows; i++) tile<1>(a + i * k, col, scale, delta + i, y + i * n);
    }
  }
};

}  // namespace
