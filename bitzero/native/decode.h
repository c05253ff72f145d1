// New tokens of many sequences through all layers, beside a cache: what sampling does.
#pragma once

#include "answers.h"
#include "attention.h"
#include "linear.h"

namespace {

// What is known of a layer beside its four matrices.
struct LayerGains {
  const float *attn, *attn_sub, *ffn, *ffn_sub, *skip, *conv, *query;  // the last three are null where there are none
  float lam;
};

// Everything that a part of the sequences is decoded with. A sequence is `fresh` new tokens, from `slot` of the cache on.
struct Decoding {
  Heads heads;  // of the present call's tokens; `qkv` and `extra` are set for each part and layer
  long layers, batch, fresh, slots, slot, width, hidden, reach;
  bool integer;
  float floor;
  const float *x, *extra;
  const int32_t *first, *positions;  // first slot of a sequence that holds a token; place of each new token in its own
  std::vector<Weights> weights;      // four of each layer
  std::vector<int32_t> live;         // the sequences that have not ended
  std::vector<LayerGains> gains;
  float *keys, *values, *recent, *out;

  long keys_at(long layer, long sequence, long place) const {
    return (((layer * batch + sequence) * slots + place) * heads.groups) * heads.d;
  }
  // Rows of y = the matrix of norm(x), block by block.
  void linear(const Weights& of, const float* gain, float lam, bool gated, const float* from, long rows, float* to) const {
    Normed norm{gain, of.k, gated, integer, lam, floor};
    float r[kBlock], d[kBlock];
    for (long i = 0; i < rows; i += kBlock)
      of.rows(norm, from + i * of.k * (1 + gated), nullptr, std::min<long>(kBlock, rows - i), r, d, to + i * of.n);
  }
  // The convolution on the rows of one sequence, in place; `recent` keeps the last inputs. `room` holds reach + fresh rows.
  void convolve(const LayerGains& of, long layer, long sequence, float* qkv, float* room) const {
    long n = heads.width();
    float* before = recent + (layer * batch + sequence) * reach * n;
    std::memcpy(room, before, reach * n * sizeof(float));
    std::memcpy(room + reach * n, qkv, fresh * n * sizeof(float));
    std::memcpy(before, room + fresh * n, reach * n * sizeof(float));
    for (long t = 0; t < fresh; t++)
      for (long lag = 0; lag <= std::min<long>(reach, positions[sequence * fresh + t]); lag++) {
        const float *from = room + (reach + t - lag) * n, *taps = of.conv + lag * n;
        for (long i = 0; i < n; i += kLanes)
          store(qkv + t * n + i, load(qkv + t * n + i) + load(from + i) * load(taps + i));
      }
  }
  // Keys and values of one sequence's new tokens into the cache, then what its heads read there.
  void attend(const LayerGains& of, long layer, long sequence, const float* qkv, float* attended) const {
    long d = heads.d, groups = heads.groups, ratio = heads.heads / groups, pitch = groups * d;
    float *k = keys + keys_at(layer, sequence, slot), *v = values + keys_at(layer, sequence, slot);
    for (long t = 0; t < fresh; t++)
      for (long g = 0; g < groups; g++) {
        const float *row = qkv + t * heads.width() + (heads.heads + g) * d, *plain = row + pitch;
        heads.turn(row, heads.inverse_rms(row), sequence * fresh + t, k + t * pitch + g * d);
        const float* more = extra ? extra + ((layer * batch + sequence) * fresh + t) * pitch + g * d : nullptr;
        for (long i = 0; i < d; i += kLanes)
          store(v + t * pitch + g * d + i, load(plain + i) + (more ? load(more + i) : Vec{}));
      }
    float *q = scratch(2, d + round_up(slots, kLanes)), *scores = q + d;
    for (long t = 0; t < fresh; t++)
      for (long head = 0; head < heads.heads; head++) {
        const float* row = qkv + t * heads.width() + head * d;
        float times = (of.query ? of.query[head] : 1.f) / std::sqrt(float(d));
        heads.turn(row, heads.inverse_rms(row) * times, sequence * fresh + t, q);
        long at = keys_at(layer, sequence, first[sequence]) + head / ratio * d;
        read(q, keys + at, values + at, pitch, slot + t + 1 - first[sequence], scores,
             attended + (t * heads.heads + head) * d);
      }
  }
  // softmax(q·keysᵀ)·values over `count` slots; zeros where there is none, in the padding before a sequence.
  void read(const float* q, const float* k, const float* v, long pitch, long count, float* scores, float* to) const {
    for (long i = 0; i < heads.d; i += kLanes) store(to + i, Vec{});
    if (count <= 0) return;
    for (long s = 0; s < count; s++) {
      Vec sum{};
      for (long i = 0; i < heads.d; i += kLanes) sum += load(q + i) * load(k + s * pitch + i);
      scores[s] = total(sum);
    }
    for (long s = count; s < round_up(count, kLanes); s++) scores[s] = -1e9f;
    Vec most = load(scores), sum{};
    for (long s = kLanes; s < count; s += kLanes) most = larger(most, load(scores + s));
    float top = largest(most);
    for (long s = 0; s < count; s += kLanes) {
      Vec e = exponential(load(scores + s) - top);
      store(scores + s, e);
      sum += e;
    }
    float inverse = 1.f / total(sum);
    for (long s = 0; s < count; s++)
      for (long i = 0; i < heads.d; i += kLanes)
        store(to + i, load(to + i) + scores[s] * inverse * load(v + s * pitch + i));
  }
  // Live sequences number [from, to) through all layers.
  void run(long from, long to) const {
    long rows = (to - from) * fresh, n = heads.width(), own = heads.heads * heads.d;
    float *now = scratch(3, rows * (2 * width + n + own + 2 * hidden) + (reach + fresh) * n), *qkv = now + rows * width,
          *attended = qkv + rows * n, *wide = attended + rows * own, *back = wide + rows * 2 * hidden,
          *room = back + rows * width;
    const long size = fresh * width;
    for (long i = from; i < to; i++) std::memcpy(now + (i - from) * size, x + live[i] * size, size * sizeof(float));
    auto add = [&](const float* more) {
      for (long i = 0; i < rows * width; i += kLanes) store(now + i, load(now + i) + load(more + i));
    };
    for (long layer = 0; layer < layers; layer++) {
      const LayerGains& of = gains[layer];
      const Weights* w = &weights[4 * layer];
      for (long i = from; of.skip && i < to; i++) {
        float* mine = now + (i - from) * size;
        const float* start = x + live[i] * size;
        for (long j = 0; j < size; j += kLanes) store(mine + j, load(mine + j) + load(start + j) * *of.skip);
      }
      linear(w[0], of.attn, of.lam, false, now, rows, qkv);
      for (long i = from; i < to; i++) {
        float* mine = qkv + (i - from) * fresh * n;
        if (of.conv) convolve(of, layer, live[i], mine, room);
        attend(of, layer, live[i], mine, attended + (i - from) * fresh * own);
      }
      linear(w[1], of.attn_sub, of.lam, false, attended, rows, back);
      add(back);
      linear(w[2], of.ffn, of.lam, false, now, rows, wide);
      linear(w[3], of.ffn_sub, of.lam, true, wide, rows, back);
      add(back);
    }
    for (long i = from; i < to; i++) std::memcpy(out + live[i] * size, now + (i - from) * size, size * sizeof(float));
  }
};

// The residual stream after all layers, and the cache with the new tokens in it, which is the one that came in.
ffi::Error decode_layers(ffi::ThreadPool pool, F32 x, F32 cos, F32 sin, F32 extra, S32 first, S32 positions, S32 slot,
                         F32 skip, F32 conv, F32 query, F32 lam, F32 attn, F32 attn_sub, F32 ffn, F32 ffn_sub, F32 qkv,
                         F32 qkv_scale, F32 o, F32 o_scale, F32 gate_up, F32 gate_up_scale, F32 down, F32 down_scale,
                         F32, F32, F32, Out out, Out keys, Out values, Out recent, int64_t heads, bool norm,
                         bool integer, float floor) {
  auto given = [](const F32& a, long at) { return a.element_count() ? a.typed_data() + at : nullptr; };
  auto of_keys = keys->dimensions();
  long layers = of_keys[0], batch = of_keys[1], groups = of_keys[3], d = of_keys[4], fresh = x.dimensions()[1];
  static thread_local Decoding run;
  run.heads = Heads{fresh, heads, groups, d, norm, nullptr, nullptr, nullptr, cos.typed_data(), sin.typed_data(), nullptr};
  run.layers = layers, run.batch = batch, run.fresh = fresh, run.slots = of_keys[2], run.slot = slot.typed_data()[0];
  run.width = x.dimensions()[2], run.hidden = down.dimensions()[2], run.reach = recent->dimensions()[2];
  run.integer = integer, run.floor = floor, run.x = x.typed_data(), run.extra = given(extra, 0);
  run.first = first.typed_data(), run.positions = positions.typed_data();
  run.keys = keys->typed_data(), run.values = values->typed_data(), run.recent = recent->typed_data();
  run.out = out->typed_data();
  run.weights.resize(4 * layers), run.gains.resize(layers);
  const F32 *codes[] = {&qkv, &o, &gate_up, &down}, *scales[] = {&qkv_scale, &o_scale, &gate_up_scale, &down_scale};
  long wide = (heads + 2 * groups) * d, own = heads * d;
  for (long i = 0; i < layers; i++)
    run.gains[i] = {attn.typed_data() + i * run.width, attn_sub.typed_data() + i * own, ffn.typed_data() + i * run.width,
                    ffn_sub.typed_data() + i * run.hidden, given(skip, i), given(conv, i * (run.reach + 1) * wide),
                    given(query, i * heads), lam.typed_data()[i]};
  in_parts(pool, 4 * layers, [&, &run = run](int part) {
    long layer = part / 4, n = codes[part % 4]->dimensions()[1], k = codes[part % 4]->dimensions()[2];
    run.weights[part].read(codes[part % 4]->typed_data() + layer * n * k, scales[part % 4]->typed_data() + layer * n, n,
                           k, integer, false);
  });
  run.live.clear();
  for (long i = 0; i < batch; i++)
    if (run.positions[(i + 1) * fresh - 1] >= 0) run.live.push_back(i);
    else std::memset(run.out + i * fresh * run.width, 0, fresh * run.width * sizeof(float));
  long going = run.live.size(), shares = 2 * pool.num_threads();
  long each = std::max<long>(1, std::min<long>(kBlock / fresh, (going + shares - 1) / shares));  // sequences of a part
  in_parts(pool, (going + each - 1) / each,
           [&, &run = run](int part) { run.run(part * each, std::min(going, (part + 1) * each)); });
  return ffi::Error::Success();
}

// The token of each row of logits at a temperature, and its log-probability: the first whose share and those before it
// exceed `chance` of the whole; at temperature 0 the likeliest, its log-probability being that at 1. Nothing of what is
// done, and never the token `without`.
ffi::Error draw_tokens(ffi::ThreadPool pool, F32 logits, F32 chance, S32 done, F32 temperature,
                       ffi::Result<S32> token, Out logp, int64_t without) {
  long rows = logits.dimensions()[0], v = logits.dimensions()[1], parts = std::min<long>(rows, 8 * pool.num_threads());
  float heat = temperature.typed_data()[0], cool = heat > 0 ? 1.f / heat : 1.f;
  in_parts(pool, parts, [&](int part) {
    float* l = scratch(1, v);
    for (long row = rows * part / parts; row < rows * (part + 1) / parts; row++) {
      token->typed_data()[row] = 0, logp->typed_data()[row] = 0;
      if (done.typed_data()[row]) continue;
      std::memcpy(l, logits.typed_data() + row * v, v * sizeof(float));
      l[without] = kNever;
      Vec most = load(l), sum{};
      for (long j = kLanes; j < v; j += kLanes) most = larger(most, load(l + j));
      float top = largest(most);
      long chosen = 0;
      while (chosen + 1 < v && l[chosen] != top) chosen++;
      float best = (l[chosen] - top) * cool;
      for (long j = 0; j < v; j += kLanes) {
        Vec e = exponential((load(l + j) - top) * cool);
        store(l + j, e);
        sum += e;
      }
      float whole = total(sum);
      if (heat > 0) {
        double left = double(chance.typed_data()[row]) * whole;
        for (long j = 0; j < v; j++) {
          if (j == without || (left -= l[j]) >= 0) continue;  // rounding leaves the likeliest
          chosen = j;
          break;
        }
        best = (logits.typed_data()[row * v + chosen] - top) * cool;
      }
      token->typed_data()[row] = chosen, logp->typed_data()[row] = best - std::log(whole);
    }
  });
  return ffi::Error::Success();
}

}  // namespace
