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

// C[i][j] (+)= Σ_p a[i·rs + p·cs]·b[p][j] of one tile of kRows × kTileCols.
template <bool kAdd, int kRows>
inline void tile(const float* __restrict a, long rs, long cs, const float* __restrict b, long ldb, float* __restrict c,
                 long ldc, long depth) {
  Vec sum[kRows][kVectors];
  for (int i = 0; i < kRows; i++)
    for (int v = 0; v < kVectors; v++) sum[i][v] = kAdd ? load(c + i * ldc + v * kLanes) : Vec{};
  for (long p = 0; p < depth; p++) {
    Vec row[kVectors];
    for (int v = 0; v < kVectors; v++) row[v] = load(b + p * ldb + v * kLanes);
#pragma GCC unroll 12
    for (int i = 0; i < kRows; i++) {
      float x = a[i * rs + p * cs];
#pragma GCC unroll 2
      for (int v = 0; v < kVectors; v++) sum[i][v] += x * row[v];
    }
  }
  for (int i = 0; i < kRows; i++)
    for (int v = 0; v < kVectors; v++) store(c + i * ldc + v * kLanes, sum[i][v]);
}

// The same of rows × cols; the panel of column j of b begins at b + j·step, and its rows are ldb apart. Where `lower`,
// tiles wholly above the diagonal are left out. Deep panels go in slices that stay in the first cache.
template <bool kAdd>
void product(const float* a, long rs, long cs, const float* b, long ldb, long step, float* c, long ldc, long rows,
             long cols, long depth, bool lower = false) {
  if (depth > kDeep) {
    product<kAdd>(a, rs, cs, b, ldb, step, c, ldc, rows, cols, kDeep, lower);
    return product<true>(a + kDeep * cs, rs, cs, b + kDeep * ldb, ldb, step, c, ldc, rows, cols, depth - kDeep, lower);
  }
  for (long j = 0; j < cols; j += kTileCols) {
    const float* panel = b + j * step;
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
