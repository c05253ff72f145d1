// A linear layer with the norm and the rounding before it, in one sweep over blocks of rows that stay in the cache.
#pragma once

#include "tiles.h"

namespace {

// What a linear layer reads: h = x, or ReLU²(gate)·up of x = [gate, up]; n = h/RMS(h)·gain; q its integers.
struct Normed {
  const float* gain;
  long k;
  bool gated, integer;
  float lam, floor;

  const float* hidden(const float* __restrict x, float* __restrict room) const {
    if (!gated) return x;
    for (long i = 0; i < k; i += kLanes) {
      Vec g = larger(Vec{}, load(x + i));
      store(room + i, g * g * load(x + k + i));
    }
    return room;
  }
  float inverse_rms(const float* h) const {
    Vec s{};
    for (long i = 0; i < k; i += kLanes) s += load(h + i) * load(h + i);
    return 1.f / std::sqrt(total(s) / k + kEps);
  }
  // n, and δ of its integers.
  float normalise(const float* __restrict h, float r, float* __restrict n) const {
    Vec m{};
    for (long i = 0; i < k; i += kLanes) {
      Vec v = load(h + i) * r * load(gain + i);
      store(n + i, v);
      m = larger(m, magnitude(v));
    }
    return std::max(largest(m), floor) * (1.f / 127);
  }
  // What is multiplied: the integers times `times`, or n moved towards them by λ.
  void operand(const float* __restrict n, float d, float times, float* __restrict a) const {
    if (!integer && lam == 0) {
      std::memcpy(a, n, k * sizeof(float));
      return;
    }
    float inverse = 1.f / d;
    for (long i = 0; i < k; i += kLanes) {
      Vec v = load(n + i), q = smaller(Vec{} + 127.f, larger(Vec{} - 127.f, rounded(v * inverse)));
      store(a + i, integer ? q * times : v + lam * (q * d - v));
    }
  }
};

// y = Q(n)·codesᵀ·scale; also 1/RMS and δ of each row, for the backward pass.
ffi::Error normed_forward(ffi::ThreadPool pool, F32 x, F32 gain, F32 codes, F32 scale, F32 lam, Out y, Out rms,
                          Out delta, bool gated, bool integer, float floor) {
  long n = codes.dimensions()[0], k = codes.dimensions()[1], rows = rms->element_count(), width = gated ? 2 * k : k;
  Normed norm{gain.typed_data(), k, gated, integer, lam.typed_data()[0], floor};
  float* panels = scratch(0, n * k);
  pack(codes.typed_data(), 1, k, k, n, panels);
  long blocks = (rows + kBlock - 1) / kBlock;
  int parts = parts_of(pool, blocks);
  in_parts(pool, parts, [&](int part) {
    float* a = scratch(1, kBlock * k + 2 * k + kBlock * n);
    float *room = a + kBlock * k, *normal = room + k, *c = normal + k;
    for (long block = blocks * part / parts; block < blocks * (part + 1) / parts; block++) {
      long first = block * kBlock, count = std::min<long>(kBlock, rows - first);
      for (long i = 0; i < count; i++) {
        const float* h = norm.hidden(x.typed_data() + (first + i) * width, room);
        float r = norm.inverse_rms(h);
        float d = norm.normalise(h, r, normal);
        rms->typed_data()[first + i] = r;
        delta->typed_data()[first + i] = d;
        norm.operand(normal, d, 1.f, a + i * k);
      }
      float* to = y->typed_data() + first * n;
      bool whole = count % kTileRows == 0;
      product<false>(a, k, 1, panels, kTileCols, k, whole ? to : c, n, round_up(count, kTileRows), n, k);
      for (long i = 0; i < count; i++) {
        float d = integer ? delta->typed_data()[first + i] : 1.f;
        const float *from = (whole ? to : c) + i * n, *s = scale.typed_data();
        for (long j = 0; j < n; j += kLanes) store(to + i * n + j, load(from + j) * (load(s + j) * d));
      }
    }
  });
  return ffi::Error::Success();
}

// The cotangents of x, gain and the weights (straight through), and mean n² over sampled rows that have a gradient.
ffi::Error normed_backward(ffi::ThreadPool pool, F32 x, F32 gain, F32 codes, F32 scale, F32 lam, F32 rms, F32 delta,
                           F32 g, Out dx, Out dgain, Out dw, Out square, bool gated, bool integer, float floor,
                           int64_t sequence, int64_t every) {
  long n = codes.dimensions()[0], k = codes.dimensions()[1], rows = rms.element_count(), width = gated ? 2 * k : k;
  Normed norm{gain.typed_data(), k, gated, integer, lam.typed_data()[0], floor};
  long blocks = (rows + kBlock - 1) / kBlock;
  int parts = parts_of(pool, blocks);
  const long size = n * k + 2 * k + kLanes;
  float *panels = scratch(0, n * k), *sums = scratch(2, parts * size);
  pack(codes.typed_data(), k, 1, n, k, panels, scale.typed_data());
  in_parts(pool, parts, [&](int part) {
    float* a = scratch(1, kBlock * (4 * k + n));
    float *h = a + kBlock * k, *normal = h + kBlock * k, *dn = normal + kBlock * k, *last = dn + kBlock * k;
    float *own = sums + part * size, *own_gain = own + n * k, *own_square = own_gain + k;
    std::memset(own, 0, size * sizeof(float));
    for (long block = blocks * part / parts; block < blocks * (part + 1) / parts; block++) {
      long first = block * kBlock, count = std::min<long>(kBlock, rows - first), padded = round_up(count, kTileRows);
      const float* grad = g.typed_data() + first * n;
      for (long i = 0; i < count; i++) {
        const float* row = norm.hidden(x.typed_data() + (first + i) * width, h + i * k);
        if (row != h + i * k) std::memcpy(h + i * k, row, k * sizeof(float));
        norm.normalise(h + i * k, rms.typed_data()[first + i], normal + i * k);
        float d = delta.typed_data()[first + i];
        norm.operand(normal + i * k, d, d, a + i * k);
      }
      if (count < padded) {  // the rows after the last are not there to be read
        std::memcpy(last, grad, count * n * sizeof(float));
        std::memset(last + count * n, 0, (padded - count) * n * sizeof(float));
      }
      product<false>(count < padded ? last : grad, n, 1, panels, kTileCols, n, dn, k, padded, k, n);
      product<true>(grad, 1, n, a, k, 1, own, k, n, k, count);
      for (long i = 0; i < count; i++) {
        long row = first + i;
        const float *hi = h + i * k, *di = dn + i * k, *from = x.typed_data() + row * width;
        float r = rms.typed_data()[row], *to = dx->typed_data() + row * width;
        Vec inner{}, any{};
        for (long j = 0; j < k; j += kLanes) {
          Vec d = load(di + j), v = load(hi + j);
          inner += d * load(norm.gain + j) * v;
          any = larger(any, magnitude(d));
          store(own_gain + j, load(own_gain + j) + d * v * r);
        }
        float back = total(inner) * r * r * r / k;
        for (long j = 0; j < k; j += kLanes) {
          Vec dh = load(di + j) * load(norm.gain + j) * r - load(hi + j) * back;
          if (!gated) {
            store(to + j, dh);
            continue;
          }
          Vec gate = larger(Vec{}, load(from + j));
          store(to + j, dh * load(from + k + j) * (gate + gate));
          store(to + k + j, dh * gate * gate);
        }
        if (!every || row / sequence % every || largest(any) == 0) continue;
        own_square[k] += 1;
        for (long j = 0; j < k; j += kLanes) {
          Vec v = load(normal + i * k + j);
          store(own_square + j, load(own_square + j) + v * v);
        }
      }
    }
  });
  for (int part = 1; part < parts; part++)
    for (long i = 0; i < size; i++) sums[i] += sums[part * size + i];
  std::memcpy(dw->typed_data(), sums, n * k * sizeof(float));
  std::memcpy(dgain->typed_data(), sums + n * k, k * sizeof(float));
  float counted = std::max(sums[n * k + 2 * k], 1.f);
  for (long i = 0; i < k; i++) square->typed_data()[i] = sums[n * k + k + i] / counted;
  return ffi::Error::Success();
}

}  // namespace
