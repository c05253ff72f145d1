// Newton–Schulz iterations of Muon.
#pragma once

#include "tiles.h"

namespace {

// c = a·b of a [rows, depth] and b[p][j] = b[p·rs + j·cs], rs or cs 1, both rounded to bf16 where `half`; `room` holds as
// many numbers as b, and half of both. Where `lower`, c is symmetric, and its lower part is made.
void multiply(const float* a, long rows, long depth, const float* b, long rs, long cs, long cols, bool half, float* room,
              float* c, bool lower) {
  if (half) {
    Pair *neighbours = reinterpret_cast<Pair*>(room), *panels = neighbours + rows * depth / 2;
    pair_neighbours(a, nullptr, rows * depth, neighbours);
    pack(b, rs, cs, depth, cols, panels);
    product<false>(neighbours, depth / 2, 1, panels, kTileCols, depth / 2, c, cols, rows, cols, depth / 2, lower);
  } else if (cs == 1) {
    product<false>(a, depth, 1, b, rs, 1, c, cols, rows, cols, depth, lower);
  } else {
    pack(b, rs, cs, depth, cols, room);
    product<false>(a, depth, 1, room, kTileCols, depth, c, cols, rows, cols, depth, lower);
  }
  if (lower) mirror(c, cols);
}

// One matrix: divided by its Frobenius norm, then Newton–Schulz iterations of Muon, in its wider form.
void orthogonalise(const float* from, long n, long k, long steps, float c0, float c1, float c2, bool half, float* to) {
  long low = std::min(n, k), high = std::max(n, k);
  float *m = scratch(1, 3 * n * k + 3 * low * low), *next = m + n * k, *a = next + n * k, *b = a + low * low,
        *room = b + low * low;
  if (n <= k) std::memcpy(m, from, n * k * sizeof(float));
  else transpose(from, n, k, m);
  Vec square{};
  for (long i = 0; i < n * k; i += kLanes) square += load(m + i) * load(m + i);
  float inverse = 1.f / (std::sqrt(total(square)) + 1e-8f);
  for (long i = 0; i < n * k; i += kLanes) store(m + i, load(m + i) * inverse);
  for (long step = 0; step < steps; step++) {
    multiply(m, low, high, m, 1, high, low, half, room, a, true);
    multiply(a, low, low, a, low, 1, low, half, room, b, true);
    for (long i = 0; i < low * low; i += kLanes) store(b + i, load(a + i) * c1 + load(b + i) * c2);
    multiply(b, low, low, m, high, 1, high, half, room, next, false);
    for (long i = 0; i < n * k; i += kLanes) store(m + i, load(m + i) * c0 + load(next + i));
  }
  if (n <= k) std::memcpy(to, m, n * k * sizeof(float));
  else transpose(m, k, n, to);
}

// Four stacks of matrices in one call: calls side by side would wait for each other's threads.
ffi::Error newton_schulz(ffi::ThreadPool pool, F32 x0, F32 x1, F32 x2, F32 x3, Out y0, Out y1, Out y2, Out y3,
                         int64_t steps, float c0, float c1, float c2, bool half) {
  if (half && !kHalves) return no_halves();
  const F32* from[] = {&x0, &x1, &x2, &x3};
  Out* to[] = {&y0, &y1, &y2, &y3};
  long depth = x0.dimensions()[0];
  in_parts(pool, 4 * depth, [&](int part) {
    const F32& x = *from[part / depth];
    long n = x.dimensions()[1], k = x.dimensions()[2], at = part % depth * n * k;
    orthogonalise(x.typed_data() + at, n, k, steps, c0, c1, c2, half, (*to[part / depth])->typed_data() + at);
  });
  return ffi::Error::Success();
}

}  // namespace
