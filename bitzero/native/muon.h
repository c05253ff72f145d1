// Newton–Schulz iterations of Muon.
#pragma once

#include "tiles.h"

namespace {

// One matrix: divided by its Frobenius norm, then Newton–Schulz iterations of Muon, in its wider form.
void orthogonalise(const float* from, long n, long k, long steps, float c0, float c1, float c2, float* to) {
  long low = std::min(n, k), high = std::max(n, k);
  float *m = scratch(1, 3 * n * k + 2 * low * low), *next = m + n * k, *turned = next + n * k, *a = turned + n * k,
        *b = a + low * low;
  if (n <= k) std::memcpy(m, from, n * k * sizeof(float));
  else transpose(from, n, k, m);
  Vec square{};
  for (long i = 0; i < n * k; i += kLanes) square += load(m + i) * load(m + i);
  float inverse = 1.f / (std::sqrt(total(square)) + 1e-8f);
  for (long i = 0; i < n * k; i += kLanes) store(m + i, load(m + i) * inverse);
  for (long step = 0; step < steps; step++) {
    pack(m, 1, high, high, low, turned);
    product<false>(m, high, 1, turned, kTileCols, high, a, low, low, low, high, true);
    mirror(a, low);
    product<false>(a, low, 1, a, low, 1, b, low, low, low, low, true);
    mirror(b, low);
    for (long i = 0; i < low * low; i += kLanes) store(b + i, load(a + i) * c1 + load(b + i) * c2);
    product<false>(b, low, 1, m, high, 1, next, high, low, high, low);
    for (long i = 0; i < n * k; i += kLanes) store(m + i, load(m + i) * c0 + load(next + i));
  }
  if (n <= k) std::memcpy(to, m, n * k * sizeof(float));
  else transpose(m, k, n, to);
}

// Four stacks of matrices in one call: calls side by side would wait for each other's threads.
ffi::Error newton_schulz(ffi::ThreadPool pool, F32 x0, F32 x1, F32 x2, F32 x3, Out y0, Out y1, Out y2, Out y3,
                         int64_t steps, float c0, float c1, float c2) {
  const F32* from[] = {&x0, &x1, &x2, &x3};
  Out* to[] = {&y0, &y1, &y2, &y3};
  long depth = x0.dimensions()[0];
  in_parts(pool, 4 * depth, [&](int part) {
    const F32& x = *from[part / depth];
    long n = x.dimensions()[1], k = x.dimensions()[2], at = part % depth * n * k;
    orthogonalise(x.typed_data() + at, n, k, steps, c0, c1, c2, (*to[part / depth])->typed_data() + at);
  });
  return ffi::Error::Success();
}

}  // namespace
