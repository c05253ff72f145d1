// A linear layer with the norm and the rounding before it, in one sweep over blocks of rows that stay in the cache.
#pragma once

#include "integers.h"

namespace {

// Rows of a matrix that hold anything but zeros, in blocks. Padding has none, nor has what no answer depends on, and a
// product with nothing is nothing: they are left out, and the same numbers come out.
struct LiveRows {
  std::vector<int32_t> at;
  long rows = 0;

  void find(const float* x, long count, long width) {
    rows = count;
    at.clear();
    for (long i = 0; i < rows; i++) {
      const float* row = x + i * width;
      for (long j = 0; j < width; j++)
        if (row[j] != 0) {  // a NaN is something
          at.push_back(i);
          break;
        }
    }
  }
  long blocks() const { return std::max<long>(1, ((long)at.size() + kBlock - 1) / kBlock); }
  long count(long block) const { return std::min<long>(kBlock, (long)at.size() - block * kBlock); }
  const int32_t* block(long block) const { return at.data() + block * kBlock; }
  // Calls visit(row) for every row of zeros from the end of the block before to the end of this one.
  template <class Visit>
  void dead(long block, Visit visit) const {
    const int32_t *live = this->block(block), *last = live + count(block);
    long row = block ? live[-1] + 1 : 0, end = block + 1 < blocks() ? last[-1] + 1 : rows;
    for (; row < end; row++)
      if (live < last && *live == row) live++;
      else visit(row);
  }
};
// Whether they follow one another.
bool adjacent(const int32_t* at, long count) { return count < 2 || at[count - 1] - at[0] == count - 1; }

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
  // 1/RMS of h, and δ of the integers of n.
  std::pair<float, float> scales(const float* __restrict h) const {
    Vec s{}, m{};
    for (long i = 0; i < k; i += kLanes) {
      s += load(h + i) * load(h + i);
      m = larger(m, magnitude(load(h + i) * load(gain + i)));
    }
    float r = 1.f / std::sqrt(total(s) / k + kEps);
    return {r, std::max(largest(m) * r, floor) * (1.f / 127)};
  }
  Vec normal(const float* h, float r, long i) const { return load(h + i) * r * load(gain + i); }
  Vec integers(Vec n, float inverse) const {
    return smaller(Vec{} + 127.f, larger(Vec{} - 127.f, rounded(n * inverse)));
  }
  // From the cotangent of n to that of x, and the gain's added up; false where there is nothing but zeros.
  bool back(const float* __restrict dn, const float* __restrict h, float r, const float* __restrict x,
            float* __restrict dgain, float* __restrict dx) const {
    Vec inner{}, any{};
    for (long j = 0; j < k; j += kLanes) {
      Vec d = load(dn + j), v = load(h + j);
      inner += d * load(gain + j) * v;
      any = larger(any, magnitude(d));
      store(dgain + j, load(dgain + j) + d * v * r);
    }
    float back = total(inner) * r * r * r / k;
    for (long j = 0; j < k; j += kLanes) {
      Vec dh = load(dn + j) * load(gain + j) * r - load(h + j) * back;
      if (!gated) {
        store(dx + j, dh);
        continue;
      }
      Vec gate = larger(Vec{}, load(x + j));
      store(dx + j, dh * load(x + k + j) * (gate + gate));
      store(dx + k + j, dh * gate * gate);
    }
    return largest(any) != 0;
  }
  // The integers as bytes, with their offset.
  void bytes(const float* __restrict h, float r, float d, uint8_t* __restrict a) const {
    typedef uint8_t Bytes __attribute__((vector_size(kLanes), aligned(1)));
    float inverse = 1.f / d;
    for (long i = 0; i < k; i += kLanes) {
      Ints q = __builtin_convertvector(integers(normal(h, r, i), inverse) + float(kOffset), Ints);
      *reinterpret_cast<Bytes*>(a + i) = __builtin_convertvector(q, Bytes);
    }
  }
  // What is multiplied: the integers times `times`, or n moved towards them by λ; panels of it are `step` apart.
  void operand(const float* __restrict h, float r, float d, float times, float* __restrict a, long step) const {
    float inverse = 1.f / d;
    for (long j = 0; j < k; j += kTileCols, a += step)
      for (long v = 0; v < kTileCols; v += kLanes) {
        Vec n = normal(h, r, j + v), q = integers(n, inverse);
        store(a + v, integer ? q * times : lam == 0 ? n : n + lam * (q * d - n));
      }
  }
};

// The weights of a linear layer as its product reads them: bytes where they are ternary integers, f32 or bf16 elsewhere.
struct Weights {
  long n = 0, k = 0;
  const float* scale = nullptr;
  bool bytes = false, half = false;
  Ternary ternary;
  std::vector<float> panels;
  std::vector<Pair> pairs;

  void read(const float* codes, const float* scales, long rows, long depth, bool integer, bool halves) {
    n = rows, k = depth, scale = scales;
    half = kHalves && (halves || integer);  // integers of eight bits are exact in bf16, and their sums in f32
    bytes = integer && kIntegers && ternary.read(codes, n, k);
    if (bytes) return;
    if (half) {
      pairs.resize(n * k / 2);
      return pack(codes, 1, k, k, n, pairs.data());
    }
    panels.resize(n * k);
    pack(codes, 1, k, k, n, panels.data());
  }
  // y = Q(n)·codesᵀ·scale of up to kBlock rows of x: those of numbers at[i], or the first ones; also 1/RMS and δ of each.
  void rows(const Normed& norm, const float* x, const int32_t* at, long count, float* r, float* d, float* y) const {
    float *a = scratch(1, kBlock * k + k + kBlock * n), *room = a + kBlock * k;
    uint8_t* small = reinterpret_cast<uint8_t*>(a);
    for (long i = 0; i < count; i++) {
      const float* h = norm.hidden(x + (at ? at[i] : i) * (norm.gated ? 2 * k : k), room);
      std::tie(r[i], d[i]) = norm.scales(h);
      if (bytes) norm.bytes(h, r[i], d[i], small + i * k);
      else norm.operand(h, r[i], d[i], 1.f, a + i * k, kTileCols);
    }
    if (bytes) ternary.product(small, count, scale, d, y);
    else scaled_product(a, count, norm.integer ? d : nullptr, room + k, y);
  }
  // y = a·codesᵀ·scale of f32 rows, which may be lost, each times its δ where there are any; c is room for a block.
  void scaled_product(float* a, long count, const float* delta, float* c, float* y) const {
    bool whole = count % kTileRows == 0;  // otherwise the last tile has rows that y has not
    float* to = whole ? y : c;
    long tall = round_up(count, kTileRows);
    if (half) {
      Pair* of = reinterpret_cast<Pair*>(a);  // a row of pairs ends before the row of numbers after it
      for (long i = 0; i < count; i++) pair_neighbours(a + i * k, nullptr, k, of + i * k / 2);
      product<false>(of, k / 2, 1, pairs.data(), kTileCols, k / 2, to, n, tall, n, k / 2);
    } else {
      product<false>(a, k, 1, panels.data(), kTileCols, k, to, n, tall, n, k);
    }
    for (long i = 0; i < count; i++) {
      float step = delta ? delta[i] : 1.f;
      for (long j = 0; j < n; j += kLanes) store(y + i * n + j, load(to + i * n + j) * (load(scale + j) * step));
    }
  }
};

// The two products of a backward pass: of the cotangents g of y with the codes, and of their transpose with what was
// multiplied; both factors of each in f32, or in bf16.
struct BackwardProducts {
  long n, k;
  const float *g, *scale;
  bool half;
  float* panels;  // of the codes: n·k numbers, or half as many pairs

  void read(const float* codes) {
    if (half) pack(codes, k, 1, n, k, reinterpret_cast<Pair*>(panels));
    else pack(codes, k, 1, n, k, panels, scale);
  }
  static long room(long n, long k) { return kBlock * (n + k); }

  // dn = (g·scale)·codes of the rows at[i], and the weights' cotangent dw += gᵀ·a, both a and dw in panels.
  void run(const int32_t* at, long count, const float* a, float* room, float* dn, float* dw) const {
    if (half) return run_in_halves(at, count, a, reinterpret_cast<Pair*>(room), dn, dw);
    long padded = round_up(count, kTileRows);
    const float* grad = room;
    if (count == padded && adjacent(at, count)) grad = g + (count ? at[0] : 0) * n;
    else {  // the rows after the last are not there to be read
      for (long i = 0; i < count; i++) std::memcpy(room + i * n, g + at[i] * n, n * sizeof(float));
      std::memset(room + count * n, 0, (padded - count) * n * sizeof(float));
    }
    product<false>(grad, n, 1, panels, kTileCols, n, dn, k, padded, k, n);
    for (long j = 0; j < k; j += kTileCols)  // sums in panels too: their tiles are read and written once a block
      product<true>(grad, 1, n, a + j * kBlock, kTileCols, 0, dw + j * n, kTileCols, n, kTileCols, count);
  }
  void run_in_halves(const int32_t* at, long count, const float* a, Pair* room, float* dn, float* dw) const {
    Pair *rows = room, *turned = rows + kBlock * n / 2, *of = turned + kBlock * n / 2;
    for (long i = 0; i < count; i++) pair_neighbours(g + at[i] * n, scale, n, rows + i * n / 2);
    for (long i = 0; i < count; i += 2) {
      bool last = i + 1 == count;
      pair_rows(g + at[i] * n, last ? nullptr : g + at[i + 1] * n, n, turned + i / 2 * n);
      for (long j = 0; j < k; j += kTileCols) {
        const float* row = a + j * kBlock + i * kTileCols;
        pair_rows(row, last ? nullptr : row + kTileCols, kTileCols, of + j * kBlock / 2 + i / 2 * kTileCols);
      }
    }
    const Pair* codes = reinterpret_cast<const Pair*>(panels);
    product<false>(rows, n / 2, 1, codes, kTileCols, n / 2, dn, k, round_up(count, kTileRows), k, n / 2);
    for (long j = 0; j < k; j += kTileCols)
      product<true>(turned, 1, n, of + j * kBlock / 2, kTileCols, 0, dw + j * n, kTileCols, n, kTileCols,
                    (count + 1) / 2);
  }
};

// y = Q(n)·codesᵀ·scale; also 1/RMS and δ of each row, for the backward pass.
ffi::Error normed_forward(ffi::ThreadPool pool, F32 x, F32 gain, F32 codes, F32 scale, F32 lam, Out y, Out rms,
                          Out delta, bool gated, bool integer, bool half, float floor) {
  if (half && !kHalves) return no_halves();
  long n = codes.dimensions()[0], k = codes.dimensions()[1], rows = rms->element_count(), width = gated ? 2 * k : k;
  Normed norm{gain.typed_data(), k, gated, integer, lam.typed_data()[0], floor};
  static thread_local Weights weights;
  static thread_local LiveRows live;
  weights.read(codes.typed_data(), scale.typed_data(), n, k, integer, half);
  live.find(x.typed_data(), rows, width);
  in_parts(pool, live.blocks(), [&, &weights = weights, &live = live](int block) {
    long count = live.count(block);
    const int32_t* at = live.block(block);
    live.dead(block, [&](long row) {
      std::memset(y->typed_data() + row * n, 0, n * sizeof(float));
      rms->typed_data()[row] = 1.f / std::sqrt(kEps), delta->typed_data()[row] = floor * (1.f / 127);
    });
    float r[kBlock], d[kBlock], *apart = scratch(2, kBlock * n);
    bool direct = count && adjacent(at, count);
    weights.rows(norm, x.typed_data(), at, count, r, d, direct ? y->typed_data() + at[0] * n : apart);
    for (long i = 0; i < count; i++) {
      rms->typed_data()[at[i]] = r[i], delta->typed_data()[at[i]] = d[i];
      if (!direct) std::memcpy(y->typed_data() + at[i] * n, apart + i * n, n * sizeof(float));
    }
  });
  return ffi::Error::Success();
}

// The cotangents of x, gain and the weights (straight through), and mean n² over sampled rows that have a gradient.
ffi::Error normed_backward(ffi::ThreadPool pool, F32 x, F32 gain, F32 codes, F32 scale, F32 lam, F32 rms, F32 delta,
                           F32 g, Out dx, Out dgain, Out dw, Out square, bool gated, bool integer, bool half,
                           float floor, int64_t sequence, int64_t every) {
  if (half && !kHalves) return no_halves();
  long n = codes.dimensions()[0], k = codes.dimensions()[1], rows = rms.element_count(), width = gated ? 2 * k : k;
  Normed norm{gain.typed_data(), k, gated, integer, lam.typed_data()[0], floor};
  static thread_local LiveRows live;
  live.find(g.typed_data(), rows, n);
  int parts = parts_of(pool, live.blocks());
  const long size = n * k + 2 * k + kLanes;
  BackwardProducts products{n, k, g.typed_data(), scale.typed_data(), half, scratch(0, n * k)};
  products.read(codes.typed_data());
  float* sums = scratch(2, parts * size);
  in_parts(pool, parts, [&, &live = live](int part) {
    float* a = scratch(1, 3 * kBlock * k + products.room(n, k));
    float *h = a + kBlock * k, *dn = h + kBlock * k, *room = dn + kBlock * k;
    float *own = sums + part * size, *own_gain = own + n * k, *own_square = own_gain + k;
    std::memset(own, 0, size * sizeof(float));
    for (long block = live.blocks() * part / parts; block < live.blocks() * (part + 1) / parts; block++) {
      long count = live.count(block);
      const int32_t* at = live.block(block);
      live.dead(block, [&](long row) { std::memset(dx->typed_data() + row * width, 0, width * sizeof(float)); });
      for (long i = 0; i < count; i++) {
        const float* row = norm.hidden(x.typed_data() + at[i] * width, h + i * k);
        if (row != h + i * k) std::memcpy(h + i * k, row, k * sizeof(float));
        float d = delta.typed_data()[at[i]];
        norm.operand(h + i * k, rms.typed_data()[at[i]], d, d, a + i * kTileCols, kBlock * kTileCols);
      }
      products.run(at, count, a, room, dn, own);
      for (long i = 0; i < count; i++) {
        long row = at[i];
        bool any = norm.back(dn + i * k, h + i * k, rms.typed_data()[row], x.typed_data() + row * width, own_gain,
                             dx->typed_data() + row * width);
        if (!any || !every || row / sequence % every) continue;
        own_square[k] += 1;
        for (long j = 0; j < k; j += kLanes) {
          Vec v = norm.normal(h + i * k, rms.typed_data()[row], j);
          store(own_square + j, load(own_square + j) + v * v);
        }
      }
    }
  });
  for (int part = 1; part < parts; part++)
    for (long i = 0; i < size; i++) sums[i] += sums[part * size + i];
  for (long j = 0; j < k; j += kTileCols)
    for (long i = 0; i < n; i++)
      std::memcpy(dw->typed_data() + i * k + j, sums + j * n + i * kTileCols, kTileCols * sizeof(float));
  std::memcpy(dgain->typed_data(), sums + n * k, k * sizeof(float));
  float counted = std::max(sums[n * k + 2 * k], 1.f);
  for (long i = 0; i < k; i++) square->typed_data()[i] = sums[n * k + k + i] / counted;
  return ffi::Error::Success();
}

}  // namespace
