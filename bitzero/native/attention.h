// Attention of each example by itself: QK-norm, rotation, scores, softmax and their backward passes.
#pragma once

#include "tiles.h"

namespace {

// Heads of a layer: what is known of their shapes, and rows of theirs before and after norm and rotation.
struct Heads {
  long sequence, heads, groups, d;
  bool norm;
  const float *qkv, *extra, *gains, *cos, *sin;
  const int32_t* segments;

  long width() const { return (heads + 2 * groups) * d; }

  // 1/RMS of a head's row, or 1 without QK-norm.
  float inverse_rms(const float* x) const {
    if (!norm) return 1.f;
    Vec s{};
    for (long i = 0; i < d; i += kLanes) s += load(x + i) * load(x + i);
    return 1.f / std::sqrt(total(s) / d + kEps);
  }
  // to = rotate(x·times) at a token.
  void turn(const float* __restrict x, float times, long token, float* __restrict to) const {
    long half = d / 2;
    const float *c = cos + token * half, *s = sin + token * half;
    for (long i = 0; i < half; i += kLanes) {
      Vec a = load(x + i) * times, b = load(x + half + i) * times, ci = load(c + i), si = load(s + i);
      store(to + i, a * ci - b * si);
      store(to + half + i, b * ci + a * si);
    }
  }
  // The cotangent of x from that of rotate(x/RMS(x)·times), and that of `times`.
  float turn_back(const float* __restrict x, float times, long token, const float* __restrict g,
                  float* __restrict to) const {
    long half = d / 2;
    const float *c = cos + token * half, *s = sin + token * half;
    Vec inner{};
    for (long i = 0; i < half; i += kLanes) {
      Vec a = load(g + i), b = load(g + half + i), ci = load(c + i), si = load(s + i);
      Vec da = a * ci + b * si, db = b * ci - a * si;
      inner += da * load(x + i) + db * load(x + half + i);
      store(to + i, da);
      store(to + half + i, db);
    }
    float r = inverse_rms(x), dot = total(inner) * r;
    float back = norm ? dot * times * r * r / d : 0.f;
    for (long i = 0; i < d; i += kLanes) store(to + i, load(to + i) * (times * r) - load(x + i) * back);
    return dot;
  }
};

// Room for the examples of one sequence, padded to whole tiles; row i of a head's part begins at i·d.
struct Room {
  long rows;  // of an example, at most, padded
  float *q, *k, *v, *kt, *vt, *scores, *grads, *g, *dq, *dk, *dv, *inverse, *inner;

  Room(long sequence, long d) : rows(round_up(sequence, kTileCols)) {
    float* at = scratch(1, rows * d * 9 + 2 * rows * rows + 2 * rows);
    for (float** part : {&q, &k, &v, &kt, &vt, &g, &dq, &dk, &dv}) *part = at, at += rows * d;
    for (float** part : {&scores, &grads}) *part = at, at += rows * rows;
    for (float** part : {&inverse, &inner}) *part = at, at += rows;
  }
};

// One example of one key-value head: its rows [first, first + count) of the tokens.
struct Example {
  const Heads& of;
  Room& room;
  long group, first, count, padded;

  Example(const Heads& of, Room& room, long group, long first, long count)
      : of(of), room(room), group(group), first(first), count(count), padded(round_up(count, kTileCols)) {}

  const float* row(long i, long head) const { return of.qkv + (first + i) * of.width() + head * of.d; }
  long end(long i) const { return round_up(i + kStep, kTileCols); }  // of the keys that rows i … i + kStep see

  void keys() {
    long d = of.d;
    std::memset(room.k + count * d, 0, (padded - count) * d * sizeof(float));
    std::memset(room.v + count * d, 0, (padded - count) * d * sizeof(float));
    for (long i = 0; i < count; i++) {
      const float *k = row(i, of.heads + group), *v = row(i, of.heads + of.groups + group);
      of.turn(k, of.inverse_rms(k), first + i, room.k + i * d);
      const float* more = of.extra ? of.extra + ((first + i) * of.groups + group) * d : nullptr;
      for (long j = 0; j < d; j += kLanes) store(room.v + i * d + j, load(v + j) + (more ? load(more + j) : Vec{}));
    }
    pack(room.k, 1, d, d, padded, room.kt);
  }
  float times(long head) const { return (of.norm ? of.gains[head] : 1.f) / std::sqrt(float(of.d)); }

  // Unnormalised weights of a head, zero where a key is later, and 1/their sum.
  void weights(long head) {
    long d = of.d, tall = round_up(count, kStep);
    std::memset(room.q + count * d, 0, (tall - count) * d * sizeof(float));
    for (long i = 0; i < count; i++) {
      const float* q = row(i, head);
      of.turn(q, of.inverse_rms(q) * times(head), first + i, room.q + i * d);
    }
    for (long i = 0; i < tall; i += kStep)
      product<false>(room.q + i * d, d, 1, room.kt, kTileCols, d, room.scores + i * padded, padded,
                     kStep, end(i), d);
    for (long i = 0; i < tall; i++) {
      float* s = room.scores + i * padded;
      long seen = i + 1, to = end(i / kStep * kStep), whole = round_up(seen, kLanes);
      for (long j = seen; j < whole; j++) s[j] = -1e9f;
      Vec most = load(s);
      for (long j = kLanes; j < whole; j += kLanes) most = larger(most, load(s + j));
      float top = largest(most);
      Vec sum{};
      for (long j = 0; j < whole; j += kLanes) {
        Vec e = exponential(load(s + j) - top);
        if (j + kLanes > seen)
          for (long lane = seen - j; lane < kLanes; lane++) e[lane] = 0;
        store(s + j, e);
        sum += e;
      }
      for (long j = whole; j < to; j += kLanes) store(s + j, Vec{});
      room.inverse[i] = 1.f / total(sum);
    }
  }
};

// Calls visit(example) for every example of a sequence: a run of equal segments that are not 0.
template <class Visit>
void examples(const Heads& of, Room& room, long batch, long group, Visit visit) {
  const int32_t* s = of.segments + batch * of.sequence;
  for (long from = 0, to; from < of.sequence; from = to) {
    for (to = from + 1; to < of.sequence && s[to] == s[from]; to++) {}
    if (s[from]) {
      Example example(of, room, group, batch * of.sequence + from, to - from);
      visit(example);
    }
  }
}

ffi::Error attend_forward(ffi::ThreadPool pool, F32 qkv, F32 extra, F32 gains, F32 cos, F32 sin, S32 segments, Out out,
                          int64_t heads, int64_t groups, bool norm) {
  long batch = segments.dimensions()[0], sequence = segments.dimensions()[1], d = 2 * cos.dimensions()[2];
  Heads of{sequence, heads, groups, d, norm, qkv.typed_data(), extra.element_count() ? extra.typed_data() : nullptr,
           gains.typed_data(), cos.typed_data(), sin.typed_data(), segments.typed_data()};
  std::memset(out->typed_data(), 0, out->size_bytes());
  in_parts(pool, batch * groups, [&](int part) {
    Room room(sequence, d);
    long group = part % groups, ratio = heads / groups;
    examples(of, room, part / groups, group, [&](Example& e) {
      e.keys();
      for (long head = group * ratio; head < (group + 1) * ratio; head++) {
        e.weights(head);
        for (long i = 0; i < e.count; i += kStep)
          product<false>(room.scores + i * e.padded, e.padded, 1, room.v, d, 1, room.q + i * d, d, kStep, d,
                         e.end(i));
        for (long i = 0; i < e.count; i++) {
          float* to = out->typed_data() + ((e.first + i) * heads + head) * d;
          for (long j = 0; j < d; j += kLanes) store(to + j, load(room.q + i * d + j) * room.inverse[i]);
        }
      }
    });
  });
  return ffi::Error::Success();
}

// The cotangents of qkv and gains; and for each head Σ over answers of (weight on sources × norm of g).
ffi::Error attend_backward(ffi::ThreadPool pool, F32 qkv, F32 extra, F32 gains, F32 cos, F32 sin, S32 segments, F32 out,
                           F32 g, F32 source, F32 answers, Out dqkv, Out dgains, Out signal, int64_t heads,
                           int64_t groups, bool norm) {
  long batch = segments.dimensions()[0], sequence = segments.dimensions()[1], d = 2 * cos.dimensions()[2];
  Heads of{sequence, heads, groups, d, norm, qkv.typed_data(), extra.element_count() ? extra.typed_data() : nullptr,
           gains.typed_data(), cos.typed_data(), sin.typed_data(), segments.typed_data()};
  bool watched = source.element_count() > 0;
  std::memset(dqkv->typed_data(), 0, dqkv->size_bytes());
  float* sums = scratch(2, batch * groups * 2 * heads);
  std::memset(sums, 0, batch * groups * 2 * heads * sizeof(float));
  in_parts(pool, batch * groups, [&](int part) {
    Room room(sequence, d);
    long group = part % groups, ratio = heads / groups;
    float* own = sums + part * 2 * heads;
    examples(of, room, part / groups, group, [&](Example& e) {
      long tall = round_up(e.count, kStep), padded = e.padded;
      e.keys();
      pack(room.v, 1, d, d, padded, room.vt);
      std::memset(room.dk, 0, padded * d * sizeof(float));
      std::memset(room.dv, 0, padded * d * sizeof(float));
      std::memset(room.g, 0, padded * d * sizeof(float));
      for (long head = group * ratio; head < (group + 1) * ratio; head++) {
        e.weights(head);
        for (long i = 0; i < tall; i++) room.inner[i] = 0;
        for (long i = 0; i < e.count; i++) {
          const float *from = g.typed_data() + ((e.first + i) * heads + head) * d,
                      *o = out.typed_data() + ((e.first + i) * heads + head) * d;
          Vec inner{}, square{};
          for (long j = 0; j < d; j += kLanes) {
            Vec v = load(from + j);
            inner += v * load(o + j);
            square += v * v;
            store(room.g + i * d + j, v * room.inverse[i]);
          }
          room.inner[i] = total(inner) * room.inverse[i];
          if (!watched || answers.typed_data()[e.first + i] == 0) continue;
          float mass = 0;
          for (long j = 0; j <= i; j++) mass += room.scores[i * padded + j] * source.typed_data()[e.first + j];
          own[heads + head] +=
              mass * room.inverse[i] * std::sqrt(total(square)) * answers.typed_data()[e.first + i];
        }
        for (long i = 0; i < tall; i += kStep) {
          product<false>(room.g + i * d, d, 1, room.vt, kTileCols, d, room.grads + i * padded, padded,
                         kStep, e.end(i), d);
          for (long row = i; row < i + kStep; row++) {
            float *p = room.scores + row * padded, *ds = room.grads + row * padded;
            for (long j = 0; j < e.end(i); j += kLanes) store(ds + j, load(p + j) * (load(ds + j) - room.inner[row]));
          }
          product<false>(room.grads + i * padded, padded, 1, room.k, d, 1, room.dq + i * d, d, kStep, d,
                         e.end(i));
        }
        for (long j = 0; j < tall; j += kStep) {  // of keys j … j + kStep; rows before their panel hold nothing for them
          long from = j / kTileCols * kTileCols;
          product<true>(room.grads + from * padded + j, 1, padded, room.q + from * d, d, 1, room.dk + j * d, d, kStep, d,
                        tall - from);
          product<true>(room.scores + from * padded + j, 1, padded, room.g + from * d, d, 1, room.dv + j * d, d, kStep, d,
                        tall - from);
        }
        for (long i = 0; i < e.count; i++) {
          float* to = dqkv->typed_data() + (e.first + i) * of.width() + head * d;
          float dot = of.turn_back(e.row(i, head), e.times(head), e.first + i, room.dq + i * d, to);
          own[head] += dot / std::sqrt(float(d));
        }
      }
      for (long i = 0; i < e.count; i++) {
        float* to = dqkv->typed_data() + (e.first + i) * of.width() + (heads + group) * d;
        of.turn_back(e.row(i, heads + group), 1.f, e.first + i, room.dk + i * d, to);
        std::memcpy(to + groups * d, room.dv + i * d, d * sizeof(float));
      }
    });
  });
  for (long head = 0; head < heads; head++) {
    float gain = 0, seen = 0;
    for (long part = 0; part < batch * groups; part++) {
      gain += sums[part * 2 * heads + head];
      seen += sums[part * 2 * heads + heads + head];
    }
    dgains->typed_data()[head] = gain;
    signal->typed_data()[head] = seen;
  }
  return ffi::Error::Success();
}

}  // namespace
