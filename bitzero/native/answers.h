// The output layer and its cross-entropy, where something is asked.
#pragma once

#include "tiles.h"

namespace {

constexpr float kNever = -1e9f;  // a logit whose probability is 0

// The output layer at the rows that have an answer: their logits never leave the block.
struct Answers {
  const F32 &x, &table;
  const int32_t* following;  // −1 where nothing is asked
  float coolness;            // 1/temperature
  long without, d, vocabulary;
  std::vector<long> asked;  // rows

  Answers(const F32& x, const F32& table, const S32& following, float temperature, long without)
      : x(x), table(table), following(following.typed_data()), coolness(1.f / temperature), without(without),
        d(table.dimensions()[1]), vocabulary(table.dimensions()[0]) {
    for (long i = 0; i < (long)following.element_count(); i++)
      if (this->following[i] >= 0) asked.push_back(i);
  }
  long blocks() const { return (asked.size() + kBlock - 1) / kBlock; }
  // Rows of a block side by side, then their logits; how many there are.
  long logits(long block, const float* panels, float* rows, float* out) const {
    long first = block * kBlock, count = std::min<long>(kBlock, asked.size() - first);
    for (long i = 0; i < count; i++)
      std::memcpy(rows + i * d, x.typed_data() + asked[first + i] * d, d * sizeof(float));
    std::memset(rows + count * d, 0, (round_up(count, kTileRows) - count) * d * sizeof(float));
    product<false>(rows, d, 1, panels, kTileCols, d, out, vocabulary, round_up(count, kTileRows), vocabulary, d);
    if (coolness != 1)
      for (long i = 0; i < count * vocabulary; i += kLanes) store(out + i, load(out + i) * coolness);
    for (long i = 0; without >= 0 && i < count; i++) out[i * vocabulary + without] = kNever;
    return count;
  }
};

// −log p of what follows each asked row, log Σ e^logit, whether no logit is larger and, where there is room for it, the
// entropy; 0 elsewhere.
ffi::Error answers_forward(ffi::ThreadPool pool, F32 x, F32 table, S32 following, Out nll, Out total_log, Out hits,
                           Out entropy, float temperature, int64_t without) {
  Answers of(x, table, following, temperature, without);
  for (Out* out : {&nll, &total_log, &hits, &entropy}) std::memset((*out)->typed_data(), 0, (*out)->size_bytes());
  long v = of.vocabulary, blocks = of.blocks();
  float* panels = scratch(0, v * of.d);
  pack(table.typed_data(), 1, of.d, of.d, v, panels);
  in_parts(pool, blocks, [&](int block) {
    float *rows = scratch(1, kBlock * (of.d + v)), *logits = rows + kBlock * of.d;
    long count = of.logits(block, panels, rows, logits);
    for (long i = 0; i < count; i++) {
      long row = of.asked[block * kBlock + i];
      const float* l = logits + i * v;
      Vec most = load(l), sum{};
      for (long j = kLanes; j < v; j += kLanes) most = larger(most, load(l + j));
      float top = largest(most), chosen = l[of.following[row]];
      for (long j = 0; j < v; j += kLanes) sum += exponential(load(l + j) - top);
      float log_sum = top + std::log(total(sum));
      total_log->typed_data()[row] = log_sum;
      nll->typed_data()[row] = log_sum - chosen;
      hits->typed_data()[row] = chosen >= top;
      if (!entropy->element_count()) continue;
      Vec mean{};
      for (long j = 0; j < v; j += kLanes) mean += exponential(load(l + j) - log_sum) * (load(l + j) - log_sum);
      entropy->typed_data()[row] = -total(mean);
    }
  });
  return ffi::Error::Success();
}

// The cotangents of x and the table, from g of each asked row's −log p and, where there is any, that of its entropy.
ffi::Error answers_backward(ffi::ThreadPool pool, F32 x, F32 table, S32 following, F32 total_log, F32 entropy, F32 g,
                            F32 of_entropy, Out dx, Out dtable, float temperature, int64_t without) {
  Answers of(x, table, following, temperature, without);
  std::memset(dx->typed_data(), 0, dx->size_bytes());
  long v = of.vocabulary, d = of.d, blocks = of.blocks(), parts = parts_of(pool, blocks);
  float *panels = scratch(0, 2 * v * d), *plain = panels + v * d, *sums = scratch(2, parts * v * d);
  pack(table.typed_data(), 1, d, d, v, panels);
  pack(table.typed_data(), d, 1, v, d, plain);
  in_parts(pool, parts, [&](int part) {
    float *rows = scratch(1, kBlock * (2 * d + v)), *back = rows + kBlock * d, *logits = back + kBlock * d;
    float* own = sums + part * v * d;
    std::memset(own, 0, v * d * sizeof(float));
    for (long block = blocks * part / parts; block < blocks * (part + 1) / parts; block++) {
      long count = of.logits(block, panels, rows, logits);
      for (long i = 0; i < count; i++) {
        long row = of.asked[block * kBlock + i];
        float *l = logits + i * v, log_sum = total_log.typed_data()[row], weight = g.typed_data()[row] * of.coolness;
        bool spread = of_entropy.element_count();
        float less = spread ? of_entropy.typed_data()[row] * of.coolness : 0, mean = spread ? entropy.typed_data()[row] : 0;
        for (long j = 0; j < v; j += kLanes) {
          Vec log_p = load(l + j) - log_sum, p = exponential(log_p);
          store(l + j, spread ? p * weight - p * (log_p + mean) * less : p * weight);
        }
        l[of.following[row]] -= weight;
      }
      product<false>(logits, v, 1, plain, kTileCols, v, back, d, round_up(count, kTileRows), d, v);
      product<true>(logits, 1, v, rows, d, 1, own, d, v, d, count);
      for (long i = 0; i < count; i++)
        std::memcpy(dx->typed_data() + of.asked[block * kBlock + i] * d, back + i * d, d * sizeof(float));
    }
  });
  for (long part = 1; part < parts; part++)
    for (long i = 0; i < v * d; i += kLanes) store(sums + i, load(sums + i) + load(sums + part * v * d + i));
  std::memcpy(dtable->typed_data(), sums, v * d * sizeof(float));
  return ffi::Error::Success();
}

}  // namespace
