// What the passes are made of: work in parts, products by tiles, vectors of floats.
//
// Rows are tokens. Work that ends in a sum is cut into as many parts as the pool has threads, the same ones whoever runs
// them, and the sum is in their order: the bits of a result depend on the number of threads and on nothing else.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#ifdef __AVX512BF16__
#include <immintrin.h>
#endif

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;
using F32 = ffi::Buffer<ffi::F32>;
using S32 = ffi::Buffer<ffi::S32>;
using Out = ffi::Result<F32>;

namespace {

#ifdef __AVX512F__
constexpr int kLanes = 16, kTallest = 12;  // rows of the tallest tile, whose sums fill the registers
#else
constexpr int kLanes = 8, kTallest = 4;
#endif
constexpr int kVectors = 2, kTileCols = kVectors * kLanes;  // of a tile of a product
constexpr int kTileRows = 4;                                // rows come in multiples of it
constexpr long kDeep = 256;                                 // rows of a panel at a time
constexpr int kStep = 8;                                    // queries, or keys, of an example that go together
constexpr int kBlock = 48;                                  // rows of a block: its operands stay in the second cache
constexpr int kAwake = 2000;  // pauses, about 0.1 ms: to be woken takes a thread as long as many a part
constexpr float kEps = 1e-6f;                               // of RMSNorm, that of model/attention.py
typedef float Vec __attribute__((vector_size(kLanes * 4), aligned(4)));
typedef int32_t Ints __attribute__((vector_size(kLanes * 4), aligned(4)));

Vec load(const float* p) { return *reinterpret_cast<const Vec*>(p); }
void store(float* p, Vec v) { *reinterpret_cast<Vec*>(p) = v; }

void pause() {
#ifdef __x86_64__
  __builtin_ia32_pause();
#endif
}

// Runs task(part) for every part; the caller does what no thread of the pool has claimed, so it never waits for one
// that has not begun (which could wait for the caller).
void in_parts(ffi::ThreadPool& pool, int parts, const std::function<void(int)>& task) {
  struct Shared {
    std::atomic<int> next{0}, done{0};
    int parts;
    const std::function<void(int)>* task;  // of the caller, who waits until every claimed part is done
    void work() {
      for (int i; (i = next.fetch_add(1)) < parts;) {
        (*task)(i);
        if (done.fetch_add(1) + 1 == parts) done.notify_all();
      }
    }
  };
  auto shared = std::make_shared<Shared>();
  shared->parts = parts;
  shared->task = &task;
  for (long i = 1; i < std::min<long>(parts, pool.num_threads()); i++) pool.Schedule([shared] { shared->work(); });
  shared->work();
  for (int i = 0; i < kAwake && shared->done.load() < parts; i++) pause();
  for (int done; (done = shared->done.load()) < parts;) shared->done.wait(done);
}

// Two bf16 numbers that follow one another along the depth of a product, the earlier one in the lower half.
struct Pair {
  uint32_t bits;
};
typedef uint32_t Pairs __attribute__((vector_size(kLanes * 4), aligned(4), may_alias));

Pairs load(const Pair* p) { return *reinterpret_cast<const Pairs*>(p); }
inline void add_product(Vec& sum, float x, const Vec& row) { sum += x * row; }

// bf16 products where the processor has them (VDPBF16PS): f32 sums, two factors of each at a time.
#ifdef __AVX512BF16__
constexpr bool kHalves = true;
inline void add_product(Vec& sum, Pair x, const Pairs& row) {
  sum = (Vec)_mm512_dpbf16_ps((__m512)sum, (__m512bh)_mm512_set1_epi32(x.bits), (__m512bh)row);
}
// The nearest bf16 of sixteen numbers, ties to even, in the lower halves.
inline Pairs halves(Vec a) { return (Pairs)_mm512_cvtepu16_epi32((__m256i)_mm512_cvtneps_pbh((__m512)a)); }
#else
constexpr bool kHalves = false;
inline void add_product(Vec&, Pair, const Pairs&) {}
inline Pairs halves(Vec) { return Pairs{}; }
#endif

ffi::Error no_halves() { return ffi::Error::InvalidArgument("this processor has no products of bf16"); }

// to[j] = (first[j], second[j]); nothing is second where there is no row.
void pair_rows(const float* __restrict first, const float* __restrict second, long n, Pair* __restrict to) {
  for (long j = 0; j < n; j += kLanes) {
    Pairs low = halves(load(first + j)), high = second ? halves(load(second + j)) << 16 : Pairs{};
    *reinterpret_cast<Pairs*>(to + j) = low | high;
  }
}

// Holds a vector in its register. Left alone, GCC reads a row of b anew for each row of a, which with few rows is more
// than two loads a cycle bring: half the speed (log, 2026-11-28). Only measured without AVX-512.
template <class T>
inline void hold(T& row) {
#if defined(__AVX2__) && !defined(__AVX512F__)
  asm("" : "+x"(row));
#endif
}

// C[i][j] (+)= Σ_p a[i·rs + p·cs]·b[p][j] of one tile of kRows × kTileCols.
template <bool kAdd, int kRows, class T>
inline void tile(const T* __restrict a, long rs, long cs, const T* __restrict b, long ldb, float* __restrict c, long ldc,
                 long depth) {
  Vec sum[kRows][kVectors];
  for (int i = 0; i < kRows; i++)
    for (int v = 0; v < kVectors; v++) sum[i][v] = kAdd ? load(c + i * ldc + v * kLanes) : Vec{};
  for (long p = 0; p < depth; p++) {
    decltype(load(b)) row[kVectors];
    for (int v = 0; v < kVectors; v++) hold(row[v] = load(b + p * ldb + v * kLanes));
#pragma GCC unroll 12
    for (int i = 0; i < kRows; i++) {
      T x = a[i * rs + p * cs];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; v++) add_product(sum[i][v], x, row[v]);
    }
  }
  for (int i = 0; i < kRows; i++)
    for (int v = 0; v < kVectors; v++) store(c + i * ldc + v * kLanes, sum[i][v]);
}

// The same of rows × cols; the panel of column j of b begins at b + j·step, and its rows are ldb apart. Where `lower`,
// tiles wholly above the diagonal are left out. Deep panels go in slices that stay in the first cache. Of pairs the
// depth, strides and all, is counted in pairs.
template <bool kAdd, class T>
void product(const T* a, long rs, long cs, const T* b, long ldb, long step, float* c, long ldc, long rows, long cols,
             long depth, bool lower = false) {
  if (depth > kDeep) {
    product<kAdd>(a, rs, cs, b, ldb, step, c, ldc, rows, cols, kDeep, lower);
    return product<true>(a + kDeep * cs, rs, cs, b + kDeep * ldb, ldb, step, c, ldc, rows, cols, depth - kDeep, lower);
  }
  for (long j = 0; j < cols; j += kTileCols) {
    const T* panel = b + j * step;
    long i = lower ? j : 0;
    for (; rows - i >= kTallest; i += kTallest)
      tile<kAdd, kTallest>(a + i * rs, rs, cs, panel, ldb, c + i * ldc + j, ldc, depth);
    for (; kTallest > 8 && rows - i >= 8; i += 8)
      tile<kAdd, 8>(a + i * rs, rs, cs, panel, ldb, c + i * ldc + j, ldc, depth);
    for (; i < rows; i += kTileRows)
      tile<kAdd, kTileRows>(a + i * rs, rs, cs, panel, ldb, c + i * ldc + j, ldc, depth);
  }
}

// Panels of b[p][j] = from[p·rs + j·cs], one after another, the rows of each too; where cs is 1, row p times scale[p].
void pack(const float* from, long rs, long cs, long depth, long cols, float* to, const float* scale = nullptr) {
  for (long j = 0; j < cols; j += kTileCols, to += depth * kTileCols) {
    if (cs == 1) {
      for (long p = 0; p < depth; p++)
        for (long v = 0; v < kTileCols; v += kLanes)
          store(to + p * kTileCols + v, load(from + p * rs + j + v) * (scale ? scale[p] : 1.f));
      continue;
    }
    for (long p0 = 0; p0 < depth; p0 += 16)
      for (long i = 0; i < kTileCols; i++)
        for (long p = p0; p < std::min(p0 + 16, depth); p++) to[p * kTileCols + i] = from[p * rs + (j + i) * cs];
  }
}

// Numbers that follow one another as pairs of neighbours, each times its scale; in place too.
void pair_neighbours(const float* from, const float* scale, long n, Pair* to) {
  typedef uint16_t Halves __attribute__((vector_size(kLanes * 2), aligned(2), may_alias));
  for (long j = 0; j < n; j += kLanes) {
    Vec a = scale ? load(from + j) * load(scale + j) : load(from + j);
    *reinterpret_cast<Halves*>(reinterpret_cast<uint16_t*>(to) + j) = __builtin_convertvector(halves(a), Halves);
  }
}

// The same panels of pairs; rs or cs is 1.
void pack(const float* from, long rs, long cs, long depth, long cols, Pair* to) {
  for (long j = 0; j < cols; j += kTileCols, to += depth / 2 * kTileCols) {
    for (long p = 0; cs == 1 && p < depth; p += 2)
      pair_rows(from + p * rs + j, from + (p + 1) * rs + j, kTileCols, to + p / 2 * kTileCols);
    for (long i = 0; cs != 1 && i < kTileCols; i++)
      for (long p = 0; p < depth; p += kLanes) {
        Pair few[kLanes / 2];
        pair_neighbours(from + (j + i) * cs + p, nullptr, kLanes, few);
        for (long of = 0; of < kLanes / 2; of++) to[(p / 2 + of) * kTileCols + i] = few[of];
      }
  }
}

// to[j][i] = from[i][j]
void transpose(const float* from, long rows, long cols, float* to) {
  for (long i0 = 0; i0 < rows; i0 += 16)
    for (long j = 0; j < cols; j++)
      for (long i = i0; i < std::min(i0 + 16, rows); i++) to[j * rows + i] = from[i * cols + j];
}

// A matrix of which `product` has made the lower part becomes symmetric.
void mirror(float* m, long n) {
  for (long i = 0; i < n; i++)
    for (long j = i + 1; j < n; j++) m[i * n + j] = m[j * n + i];
}

long round_up(long n, long to) { return (n + to - 1) / to * to; }

// Of both, b where either is no number: a NaN that came in as b goes on.
Vec larger(Vec a, Vec b) { return a > b ? a : b; }
Vec smaller(Vec a, Vec b) { return a < b ? a : b; }
Vec magnitude(Vec a) { return larger(-a, a); }

// To the nearest integer, ties to even, of |a| < 2²²; no flag may let the compiler reassociate this file.
Vec rounded(Vec a) {
  constexpr float magic = 12582912.f;
  return (a + magic) - magic;
}

float total(Vec a) {
  float s = 0;
  for (int i = 0; i < kLanes; i++) s += a[i];
  return s;
}
float largest(Vec a) {
  float s = a[0];
  for (int i = 1; i < kLanes; i++) s = std::max(s, a[i]);
  return s;
}

float* scratch(int which, size_t n) {
  thread_local std::vector<float> memory[4];
  if (memory[which].size() < n) memory[which].resize(n);
  return memory[which].data();
}

int parts_of(ffi::ThreadPool& pool, long blocks) { return std::max(1, (int)std::min<long>(pool.num_threads(), blocks)); }

// e^x to about two units in the last place, for x ≤ 0 (Cephes' polynomial).
Vec exponential(Vec x) {
  x = larger(Vec{} - 87.f, x);
  Vec n = rounded(x * 1.44269504f);
  Vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
  Vec p = r * 1.9875691500e-4f + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  Vec y = p * r * r + r + 1.f;
  Ints power = (__builtin_convertvector(n, Ints) + 127) << 23;
  return y * reinterpret_cast<Vec&>(power);
}

}  // namespace
