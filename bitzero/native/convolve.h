// A causal depthwise convolution with residual, within each example of a packed row, and its backward pass.
#pragma once

#include "tiles.h"

namespace {

// Lags that a token sees: no row before the beginning of its example, where positions count from 0.
long lags_at(const int32_t* positions, long token, long lags) { return std::min<long>(lags, positions[token] + 1); }

// y_t = x_t + Σ taps_lag·x_{t−lag}
ffi::Error convolve_forward(ffi::ThreadPool pool, F32 x, F32 taps, S32 positions, Out y) {
  long batch = x.dimensions()[0], sequence = x.dimensions()[1], n = x.dimensions()[2], lags = taps.dimensions()[0];
  in_parts(pool, batch, [&](int part) {
    for (long t = part * sequence; t < (part + 1) * sequence; t++) {
      const float *row = x.typed_data() + t * n, *of = taps.typed_data();
      float* to = y->typed_data() + t * n;
      long seen = lags_at(positions.typed_data(), t, lags);
      for (long i = 0; i < n; i += kLanes) {
        Vec sum = load(row + i);
        for (long lag = 0; lag < seen; lag++) sum += load(of + lag * n + i) * load(row - lag * n + i);
        store(to + i, sum);
      }
    }
  });
  return ffi::Error::Success();
}

// The cotangents of x and taps: a row takes part in the results at and after it.
ffi::Error convolve_backward(ffi::ThreadPool pool, F32 x, F32 taps, S32 positions, F32 g, Out dx, Out dtaps) {
  long batch = x.dimensions()[0], sequence = x.dimensions()[1], n = x.dimensions()[2], lags = taps.dimensions()[0];
  int parts = parts_of(pool, batch);
  float* sums = scratch(2, parts * lags * n);
  in_parts(pool, parts, [&](int part) {
    float* own = sums + part * lags * n;
    std::memset(own, 0, lags * n * sizeof(float));
    for (long row = batch * part / parts; row < batch * (part + 1) / parts; row++)
      for (long t = row * sequence; t < (row + 1) * sequence; t++) {
        const float *from = x.typed_data() + t * n, *in = g.typed_data() + t * n, *of = taps.typed_data();
        long seen = lags_at(positions.typed_data(), t, lags), later = 1;
        while (later < lags && t + later < (row + 1) * sequence && positions.typed_data()[t + later] >= later) later++;
        for (long i = 0; i < n; i += kLanes) {
          Vec here = load(in + i), sum = here;
          for (long lag = 0; lag < later; lag++) sum += load(of + lag * n + i) * load(in + lag * n + i);
          store(dx->typed_data() + t * n + i, sum);
          for (long lag = 0; lag < seen; lag++)
            store(own + lag * n + i, load(own + lag * n + i) + here * load(from - lag * n + i));
        }
      }
  });
  for (long i = 0; i < lags * n; i += kLanes) {
    Vec sum{};
    for (int part = 0; part < parts; part++) sum += load(sums + part * lags * n + i);
    store(dtaps->typed_data() + i, sum);
  }
  return ffi::Error::Success();
}

}  // namespace
