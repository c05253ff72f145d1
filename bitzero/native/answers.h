// The output layer and its cross-entropy, where something is asked.
#pragma once

#include "tiles.h"

namespace {

// The output layer at the rows that have an answer: their logits never leave the block.
struct Answers {
  const F32 &x, &table;
  const int32_t* following;  // −1 where nothing is asked
  long d, vocabulary;
  std::vector<long> asked;  // rows

  Answers(const F32& x, const F32& table, const S32& following)
      : x(x), table(table), following(following.typed_data()), d(table.dimensions()[1]),
        vocabulary(table.dimensions()[0]) {
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
    return count;
  }
};

// −log p of what follows each asked row, log Σ e^logit, and whether no logit is larger; 0 elsewhere.
ffi::Error answers_forward(ffi::ThreadPool pool, F32 x, F32 table, S32 following, Out nll, Out total_log, Out hits) {
  Answers of(x, table, following);
  for (Out* out : {&nll, &total_log, &hits}) std::memset((*out)->typed_data(), 0, (*out)->size_bytes());
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
    }
  });
  return ffi::Error::Success();
}

// The cotangents of x and the table, of g of each asked row's −log p.
ffi::Error answers_backward(ffi::ThreadPool pool, F32 x, F32 table, S32 following, F32 total_log, F32 g, Out dx,
                            Out dtable) {
  Answers of(x, table, following);
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
        float *l = logits + i * v, log_sum = total_log.typed_data()[row], weight = g.typed_data()[row];
        for (long j = 0; j < v; j += kLanes) store(l + j, exponential(load(l + j) - log_sum) * weight);
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
