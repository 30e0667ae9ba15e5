// Attention of one pair and head: an int8 product, exponentials, and a weighted sum in float.
#pragma once

#include <cmath>

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
    dot_tile<1>(reinterpret_cast<const unsigned char*>(offset_row), 0, panel, size / kWord, quantized.offsets + column);
  }
}

// scores[i][j] = queries[i] * keys[j], apart from the scale of the query, for at most kFloatRows rows.
INLINE void score(const Value* queries, std::size_t height, std::size_t size, const Keys& keys, std::size_t first,
                  std::size_t columns, float* scores) {
  alignas(kAlignment) std::int32_t dots[kFloatRows * kPanelColumns];
  for (std::size_t column = 0; column < columns; column += kPanelColumns) {
    std::size_t key = first + column;
    dot_rows<kFloatRows>(height, reinterpret_cast<const unsigned char*>(queries), size * sizeof(Value),
                        keys.panels + key * size, size / kWord, dots);
    for (std::size_t j = 0; j < kPanelColumns; j += kLanes) {
      I16 offset = load(keys.offsets + key + j);
      F16 scale = load(keys.scales + key + j);
      for (std::size_t i = 0; i < height; i++)
        store(scores + i * columns + column + j, to_float(load(dots + i * kPanelColumns + j) - offset) * scale);
    }
  }
}

// For `height` rows from `row` on: replaces the scores of the tokens that a row sees by 2^(factor * (score - largest)),
// all others by 0, and the row's factor by 1 / their sum. Step by step for all rows, as above. `first`: the token of
// the first score. `columns` are whole vectors.
INLINE void exponentials(const AttentionShape& shape, std::size_t row, std::size_t height, std::size_t first,
                         std::size_t columns, float* scores, float* factors) {
  float shifts[kFloatRows];
  F16 totals[kFloatRows];
  for (std::size_t i = 0; i < height; i++) {
    float* x = scores + i * columns;
    Range seen = seen_from(shape, row + i);
    for (std::size_t j = 0; j < seen.first - first; j++) x[j] = -HUGE_VALF;
    for (std::size_t j = seen.end - first; j < columns; j++) x[j] = -HUGE_VALF;
    F16 high = load(x);
    for (std::size_t j = kLanes; j < columns; j += kLanes) high = max(load(x + j), high);
    shifts[i] = -(largest(high) * factors[i]);
  }
  for (std::size_t i = 0; i < height; i++) {
    F16 factor = splat(factors[i]), shift = splat(shifts[i]), total = splat(0.0f);
    for (std::size_t j = 0; j < columns; j += kLanes) {
      F16 e = power_of_two(fma(load(scores + i * columns + j), factor, shift));
      store(scores + i * columns + j, e);
      total = total + e;
    }
    totals[i] = total;
  }
  for (std::size_t i = 0; i < height; i++) factors[i] = 1.0f / sum(totals[i]);
}

void attention(const AttentionShape& shape, const float* queries, std::size_t query_stride, const float* keys,
               const float* values, std::size_t stride, float* out, std::size_t out_stride, unsigned char* scratch) {
  std::size_t length = shape.length, size = shape.head_size, padded = round_up(length, kPanelColumns);
  Parts parts(scratch);
  float* mean = parts.take<float>(size);
  Keys quantized{parts.take<Weight>(padded * size), parts.take<std::int32_t>(padded), parts.take<float>(padded)};
  float* packed = parts.take<float>(length * size);          // values: [length][size]
  Value* offset_row = parts.take<Value>(size);
  unsigned char* tile = parts.take<unsigned char>(kFloatRows * size * sizeof(Value));
  float* scores = parts.take<float>(kFloatRows * padded);
  Value* left = shape.relative ? parts.take<Value>(padded * size) : nullptr;
  quantize_keys(keys, stride, length, size, mean, reinterpret_cast<Weight*>(tile), offset_row, quantized, left);
  for (std::size_t token = 0; token < length; token++)
    for (std::size_t d = 0; d < size; d += kLanes)
      store(packed + token * size + d, load(values + token * stride + d));
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
    exponentials(shape, row, height, first, columns, scores, factors);
    float_product<kFloatRows>(height, scores, columns, packed + first * size, size, end - first, size, factors,
                             out + row * out_stride, out_stride);
  }
}

}  // namespace
}  // namespace PAIRSCORE_ISA
}  // namespace pairscore
