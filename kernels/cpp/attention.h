// Attention of one pair and head: a product in 8 bits, exponentials, and a weighted sum of values in 16 bits.
#pragma once

#include <cmath>
#include <cstring>

#include "floats.h"
#include "kernels.h"
#include "product.h"
#include "relative.h"
#include "signed_rows.h"

namespace pairscore {
namespace PAIRSCORE_ISA {
namespace {

static_assert(kFloatRows >= 4 && kPanelColumns <= kMostPanelColumns, "attention() and attention_scratch() count on it");

// Tokens from `first` to before `end`.
struct Range {
  std::size_t first, end;
};

// Those that token `row` sees.
INLINE Range seen_from(const AttentionShape& shape, std::size_t row) {
  std::size_t reach = shape.window ? shape.window / 2 : shape.length;
  return {row < reach ? 0 : row - reach, row + reach < shape.length ? row + reach + 1 : shape.length};
}

// The keys of one head as panels of signed 8-bit values, like the weights of a linear layer.
struct Keys {
  Weight* panels;                 // [columns / panel][head_size / word][panel][word]
  std::int32_t* offsets;          // [columns], what kQueryOffset adds to each product
  float* scales;                  // [columns]
};

// Columns behind the last token repeat it. The keys' mean is taken off first: it moves all scores of a query alike,
// which softmax does not see, and leaves 8 bits for what tells the keys apart (SageAttention, arXiv 2410.02367).
// `rows` holds four rows of values.
// The rows go to `left` too, as values of a product's left side, where that is not null.
INLINE void quantize_keys(const float* keys, std::size_t stride, std::size_t length, std::size_t size, float* mean,
                          Weight* rows, Value* offset_row, const Keys& quantized, Value* left) {
  for (std::size_t i = 0; i < size; i += kLanes) {
    F16 total = splat(0.0f);
    for (std::size_t token = 0; token < length; token++) total = total + load(keys + token * stride + i);
    store(mean + i, total / splat(static_cast<float>(length)));
  }
  constexpr std::size_t kWordBytes = kWord * sizeof(Weight);
  for (std::size_t i = 0; i < size; i++) offset_row[i] = kQueryOffset;
  for (std::size_t column = 0; column < round_up(length, kPanelColumns); column += kPanelColumns) {
    Weight* panel = quantized.panels + column * size;
    const SignedRows signed_rows(keys, stride, column, kPanelColumns, length - 1, mean, size,
                                 quantized.scales + column);
    if (left)
      for (std::size_t i = 0; i < kPanelColumns; i++)
        signed_rows.write(i, kQueryOffset, left + (column + i) * size);
    for (std::size_t four = 0; four < kPanelColumns; four += 4) {
      for (std::size_t i = 0; i < 4; i++) signed_rows.write(four + i, 0, rows + i * size);
      for (std::size_t word = 0; word < size / kWord; word += 4)
        transpose(rows + word * kWord, size * sizeof(Weight), panel + (word * kPanelColumns + four) * kWord,
                  kPanelColumns * kWordBytes);
    }
    dot_rows<1>(1, reinterpret_cast<const unsigned char*>(offset_row), 0, panel, size / kWord,
                quantized.offsets + column);
  }
}

// The end of a tile of scores: takes off what kQueryOffset added, and multiplies by the keys' scales.
struct ScoredSums {
  const std::int32_t* offsets;
  const float* scales;
  float* out;
  std::size_t stride;

  INLINE_MEMBER void operator()(std::size_t i, std::size_t j, I16 dots) const {
    store(out + i * stride + j, to_float(dots - load(offsets + j)) * load(scales + j));
  }
};

// scores[i][j] = queries[i] * keys[j], apart from the scale of the query, for at most kFloatRows rows.
INLINE void score(const Value* queries, std::size_t height, std::size_t size, const Keys& keys, std::size_t first,
                  std::size_t columns, float* scores) {
  for (std::size_t column = 0; column < columns; column += kPanelColumns) {
    const std::size_t key = first + column;
    dot_and_end<kFloatRows>(height, reinterpret_cast<const unsigned char*>(queries), size * sizeof(Value),
                            keys.panels + key * size, size / kWord, true,
                            ScoredSums{keys.offsets + key, keys.scales + key, scores + column, columns});
  }
}

// The weight of the token with the largest score, and the largest whole number that stands for a value: 512 of their
// products fit into 32 bits.
constexpr float kLargestValue = 1023.0f;  // and 4095 is the largest weight, 2 to the power of 11.9996

constexpr std::size_t kTokensOfSum = 512;
alignas(kAlignment) const float kKeepFirst[2 * kLanes] = {
    HUGE_VALF,  HUGE_VALF,  HUGE_VALF,  HUGE_VALF,  HUGE_VALF,  HUGE_VALF,  HUGE_VALF,  HUGE_VALF,
    HUGE_VALF,  HUGE_VALF,  HUGE_VALF,  HUGE_VALF,  HUGE_VALF,  HUGE_VALF,  HUGE_VALF,  HUGE_VALF,
    -HUGE_VALF, -HUGE_VALF, -HUGE_VALF, -HUGE_VALF, -HUGE_VALF, -HUGE_VALF, -HUGE_VALF, -HUGE_VALF,
    -HUGE_VALF, -HUGE_VALF, -HUGE_VALF, -HUGE_VALF, -HUGE_VALF, -HUGE_VALF, -HUGE_VALF, -HUGE_VALF};

// Scores from `end` on become -infinity. columns: whole vectors.
INLINE void drop(float* scores, std::size_t end, std::size_t columns) {
  std::size_t j = end / kLanes * kLanes;
  if (j < columns) store(scores + j, min(load(scores + j), load(kKeepFirst + kLanes - end % kLanes)));
  for (j += kLanes; j < columns; j += kLanes) store(scores + j, splat(-HUGE_VALF));
}

// For `height` rows from `row` on: weights of the tokens that a row sees, 4095 * 2^(factor * (score - largest)) as whole
// numbers, 0 for all others, and in place of the row's factor 1 / their sum. Step by step for all rows, as above. `first`:
// the token of the first score. `columns` are whole vectors. Up to a vector of weights is written behind the last row.
INLINE void exponentials(const AttentionShape& shape, std::size_t row, std::size_t height, std::size_t first,
                         std::size_t columns, float* scores, float* factors, std::int16_t* weights) {
  float largest_of[kFloatRows];
  alignas(kAlignment) std::int32_t totals[kFloatRows * kLanes];
  for (std::size_t i = 0; i < height; i++) {
    float* x = scores + i * columns;
    Range seen = seen_from(shape, row + i);
    for (std::size_t j = 0; j + first < seen.first; j++) x[j] = -HUGE_VALF;
    drop(x, seen.end - first, columns);
    F16 high = load(x);
    for (std::size_t j = kLanes; j < columns; j += kLanes) high = max(load(x + j), high);
    largest_of[i] = largest(high);
  }
  // Adding 1.5 * 2^23 rounds to a whole number and leaves it in the lower half.
  const F16 top = splat(11.999647792f), nothing = splat(-2.0f), magic = splat(12582912.0f);
  for (std::size_t i = 0; i < height; i++) {
    const F16 factor = splat(factors[i]), high = splat(largest_of[i]);
    auto whole = [&](std::size_t j) INLINE_LAMBDA {
      return bits(power_of_two(max(nothing, fma(load(scores + i * columns + j) - high, factor, top))) + magic);
    };
    I16 total = splat(0);
    for (std::size_t j = 0; j < columns; j += 2 * kLanes) {
      const bool both = kPanelColumns % (2 * kLanes) == 0 || j + kLanes < columns;
      const I16 two = low_halves(whole(j), both ? whole(j + kLanes) : splat(0));
      store(reinterpret_cast<std::int32_t*>(weights + i * columns + j), two);
      total = dot_pairs(total, splat(0x10001), two);
    }
    store(totals + i * kLanes, total);
  }
  for (std::size_t i = 0; i < height; i++) {
    std::int32_t total = 0;
    for (std::size_t lane = 0; lane < kLanes; lane++) total += totals[i * kLanes + lane];
    // No number, where the largest score or the factor is none.
    factors[i] = 1.0f / static_cast<float>(total) + (largest_of[i] - largest_of[i]) * factors[i];
  }
}

// Values of one head as whole numbers of at most kLargestValue, a scale a column, two tokens in a word: [pairs][size].
struct Values {
  std::int32_t* pairs;
  float* scales;
};

INLINE void quantize_values(const float* values, std::size_t stride, std::size_t length, std::size_t size,
                            const Values& quantized) {
  for (std::size_t d = 0; d < size; d += kLanes) {
    F16 high = splat(0.0f), total = splat(0.0f);
    for (std::size_t token = 0; token < length; token++) {
      F16 value = load(values + token * stride + d);
      high = max(absolute(value), high);
      total = total + value;
    }
    F16 scale = high / splat(kLargestValue);
    scale = scale + (splat(1.0f) - where_greater(scale, splat(0.0f), splat(1.0f)));  // 1 where it is 0
    const F16 inverse = splat(1.0f) / scale;
    store(quantized.scales + d, scale + (total - total));  // no number where a value is none
    for (std::size_t token = 0; token < length; token += 2) {
      const float* x = values + token * stride + d;
      I16 first = nearest(load(x) * inverse), second = splat(0);
      if (token + 1 < length) second = nearest(load(x + stride) * inverse);
      store(quantized.pairs + token / 2 * size + d, pairs(first, second));
    }
  }
}

// out[i][j] = the sum of weights[i][k] * values[k][j], in 32 bits, for kRows rows and kVectors * 16 columns: added to what
// `out` holds unless kFirst, and times factors[i] * scales[j] if kLast.
template <std::size_t kRows, std::size_t kVectors>
NOINLINE void weigh_tile(const std::int16_t* weights, std::size_t weights_stride, const std::int32_t* values,
                         std::size_t values_stride, std::size_t pairs, bool is_first, bool is_last,
                         const float* factors, const float* scales, float* out, std::size_t out_stride) {
  I16 sums[kRows][kVectors];
  PAIRSCORE_UNROLL
  for (std::size_t i = 0; i < kRows; i++) {
    PAIRSCORE_UNROLL
    for (std::size_t j = 0; j < kVectors; j++) sums[i][j] = splat(0);
  }
  for (std::size_t k = 0; k < pairs; k++) {
    I16 right[kVectors];
    PAIRSCORE_UNROLL
    for (std::size_t j = 0; j < kVectors; j++) right[j] = load(values + k * values_stride + j * kLanes);
    PAIRSCORE_UNROLL
    for (std::size_t i = 0; i < kRows; i++) {
      std::int32_t two;
      std::memcpy(&two, weights + i * weights_stride + 2 * k, sizeof two);
      I16 left = splat(two);
      PAIRSCORE_UNROLL
      for (std::size_t j = 0; j < kVectors; j++) {
        sums[i][j] = dot_pairs(sums[i][j], left, right[j]);
        keep(sums[i][j], left);
      }
    }
  }
  PAIRSCORE_UNROLL
  for (std::size_t i = 0; i < kRows; i++) {
    PAIRSCORE_UNROLL
    for (std::size_t j = 0; j < kVectors; j++) {
      float* to = out + i * out_stride + j * kLanes;
      F16 y = to_float(sums[i][j]);
      if (!is_first) y = y + load(to);
      if (is_last) y = y * (splat(factors[i]) * load(scales + j * kLanes));
      store(to, y);
    }
  }
}

// The same for `height` rows, from 1 to kRows, and any number of tokens and of whole vectors.
template <std::size_t kRows>
INLINE void weigh(std::size_t height, const std::int16_t* weights, std::size_t weights_stride, const Values& values,
                  std::size_t first, std::size_t end, std::size_t size, const float* factors, float* out,
                  std::size_t out_stride) {
  if (height < kRows) {
    if constexpr (kRows > 1)
      weigh<kRows - 1>(height, weights, weights_stride, values, first, end, size, factors, out, out_stride);
    return;
  }
  for (std::size_t token = first; token < end; token += kTokensOfSum) {
    const std::size_t stop = end - token < kTokensOfSum ? end : token + kTokensOfSum, pairs = (stop - token + 1) / 2;
    const bool is_first = token == first, is_last = stop == end;
    const std::int16_t* left = weights + (token - first);
    const std::int32_t* right = values.pairs + token / 2 * size;
    std::size_t d = 0;
    for (; d + kFloatVectors * kLanes <= size; d += kFloatVectors * kLanes)
      weigh_tile<kRows, kFloatVectors>(left, weights_stride, right + d, size, pairs, is_first, is_last, factors,
                                       values.scales + d, out + d, out_stride);
    for (; d < size; d += kLanes)
      weigh_tile<kRows, 1>(left, weights_stride, right + d, size, pairs, is_first, is_last, factors,
                           values.scales + d, out + d, out_stride);
  }
}

// kSize: the head's columns where the compiler is to know them, else 0.
template <std::size_t kSize>
void attention_of(const AttentionShape& shape, const float* queries, std::size_t query_stride, const float* keys,
                  const float* values, std::size_t stride, float* out, std::size_t out_stride, unsigned char* scratch) {
  const std::size_t size = kSize ? kSize : shape.head_size;
  std::size_t length = shape.length, padded = round_up(length, kPanelColumns);
  Parts parts(scratch);
  float* mean = parts.take<float>(size);
  Keys quantized{parts.take<Weight>(padded * size), parts.take<std::int32_t>(padded), parts.take<float>(padded)};
  const Values answers{parts.take<std::int32_t>((length + 1) / 2 * size), parts.take<float>(size)};
  Value* offset_row = parts.take<Value>(size);
  unsigned char* tile = parts.take<unsigned char>(kFloatRows * size * sizeof(Value));
  float* scores = parts.take<float>(kFloatRows * padded);
  std::int16_t* weights = parts.take<std::int16_t>(kFloatRows * padded + kLanes);
  Value* left = shape.relative ? parts.take<Value>(padded * size) : nullptr;
  quantize_keys(keys, stride, length, size, mean, reinterpret_cast<Weight*>(tile), offset_row, quantized, left);
  quantize_values(values, stride, length, size, answers);
  RelativeScores relative;
  if (shape.relative) relative.begin(*shape.relative, length, size, mean, left, quantized.scales, parts);

  for (std::size_t row = 0; row < shape.queries; row += kFloatRows) {
    std::size_t height = shape.queries - row < kFloatRows ? shape.queries - row : kFloatRows;
    Value* asking = reinterpret_cast<Value*>(tile);
    alignas(kAlignment) float factors[round_up(kFloatRows, kLanes)];
    const SignedRows signed_rows(queries, query_stride, row, height, shape.queries - 1, nullptr, size, factors);
    for (std::size_t i = 0; i < height; i++) {
      signed_rows.write(i, kQueryOffset, asking + i * size);
      factors[i] = factors[i] * 1.44269504089f;  // to base two
    }
    // From the first token that the first row sees, at a whole panel, to the last that the last row sees.
    std::size_t first = seen_from(shape, row).first / kPanelColumns * kPanelColumns;
    std::size_t end = seen_from(shape, row + height - 1).end, columns = round_up(end, kPanelColumns) - first;
    score(asking, height, size, quantized, first, columns, scores);
    if (shape.relative) relative.add(asking, row, height, shape.queries, scores, factors);
    exponentials(shape, row, height, first, columns, scores, factors, weights);
    weigh<kFloatRows>(height, weights, columns, answers, first, end, size, factors, out + row * out_stride, out_stride);
  }
}

// Loops over the columns of a head are short: unrolled, for the sizes that most models have, they take less time.
void attention(const AttentionShape& shape, const float* queries, std::size_t query_stride, const float* keys,
               const float* values, std::size_t stride, float* out, std::size_t out_stride, unsigned char* scratch) {
  switch (shape.head_size) {
    case 32: return attention_of<32>(shape, queries, query_stride, keys, values, stride, out, out_stride, scratch);
    case 64: return attention_of<64>(shape, queries, query_stride, keys, values, stride, out, out_stride, scratch);
    default: return attention_of<0>(shape, queries, query_stride, keys, values, stride, out, out_stride, scratch);
  }
}

}  // namespace
}  // namespace PAIRSCORE_ISA
}  // namespace pairscore
