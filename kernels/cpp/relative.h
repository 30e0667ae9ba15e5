// Attention with relative positions, as in DeBERTa (He et al., arXiv 2006.03654 and 2111.09543): to the score of query i
// and key j come the query times a key of the distance i - j, and the key times a query of that distance. Both are
// products of 8-bit values, like queries times keys; their columns are distances instead of tokens.
#pragma once

#include "floats.h"
#include "kernels.h"
#include "product.h"
#include "signed_rows.h"

namespace pairscore {
namespace PAIRSCORE_ISA {
namespace {

constexpr float kToBaseTwo = 1.44269504089f;
// The products of keys and positions are computed for kRelativeQueries queries at once: more, and they leave the
// second-level cache; fewer, and more of their columns belong to no query.
static_assert(kFloatRows <= kRelativeKeys && kRelativeQueries % kFloatRows == 0, "RelativeScores counts on it");

void gather_positions(const PositionTable& table, const std::int32_t* rows, std::ptrdiff_t step, std::size_t length,
                      std::size_t size, const PositionColumns& columns) {
  const std::size_t count = 2 * length - 1, padded = round_up(count, kMostPanelColumns);
  Weight* panels = reinterpret_cast<Weight*>(columns.panels);
  for (std::size_t column = 0; column < padded; column++) {
    Weight* to = panels + column / kPanelColumns * kPanelColumns * size + column % kPanelColumns * kWord;
    const bool used = column < count;
    const std::size_t row = used ? static_cast<std::size_t>(rows[static_cast<std::ptrdiff_t>(column) * step]) : 0;
    const std::int8_t* from = table.values + row * table.stride;
    std::int32_t sum = 0;
    for (std::size_t word = 0; word < size / kWord; word++)
      for (std::size_t k = 0; k < kWord; k++) {
        const std::int8_t value = used ? from[word * kWord + k] : 0;
        to[word * kPanelColumns * kWord + k] = value;
        sum += value;
      }
    columns.offsets[column] = kQueryOffset * sum;
    columns.scales[column] = used ? table.scales[row * table.heads] : 0.0f;
    columns.bias[column] = used && table.bias ? table.bias[row * table.heads] : 0.0f;
  }
}

// What relative positions add to the scores of one pair and head. Scores are in powers of two.
class RelativeScores {
 public:
  // `keys` are less their `mean`, as values of a product's left side; `scales` are theirs. Takes its memory from `parts`.
  INLINE_MEMBER void begin(const RelativePositions& positions, std::size_t length, std::size_t size, const float* mean,
                           const Value* keys, const float* scales, Parts& parts) {
    query_columns_ = positions.keys;
    key_columns_ = positions.queries;
    length_ = length;
    size_ = size;
    columns_ = round_up(length, kPanelColumns);
    keys_ = keys;
    terms_ = parts.take<float>(position_columns(length));
    factors_ = parts.take<float>(columns_);
    of_tile_ = parts.take<float>(kRelativeKeys * kKeyStride + kLanes);
    of_keys_ = parts.take<float>(kRelativeQueries * columns_);
    of_queries_ = parts.take<float>(kFloatRows * query_stride());
    const F16 to_base_two = splat(kToBaseTwo);
    for (std::size_t j = 0; j < columns_; j += kLanes) store(factors_ + j, load(scales + j) * to_base_two);
    add_mean(mean, parts.take<float>(size), parts.take<Value>(size));
  }

  // Replaces the scores of `height` of all `rows` queries, from `row` on, by factor * (score + query * position) + key *
  // position, and the factors by 1. Tiles come from the first to the last.
  INLINE_MEMBER void add(const Value* queries, std::size_t row, std::size_t height, std::size_t rows, float* scores,
                         float* factors) {
    if (row % kRelativeQueries == 0) multiply_keys(row, rows - row < kRelativeQueries ? rows - row : kRelativeQueries);
    const std::size_t first = (length_ - row - height) / kPanelColumns * kPanelColumns, end = 2 * length_ - 1 - row;
    alignas(kAlignment) std::int32_t dots[kFloatRows * kPanelColumns];
    for (std::size_t column = first; column < end; column += kPanelColumns) {
      dot_rows<kFloatRows>(height, reinterpret_cast<const unsigned char*>(queries), size_ * sizeof(Value),
                           panel(query_columns_, column), size_ / kWord, dots);
      for (std::size_t j = 0; j < kPanelColumns; j += kLanes) {
        const I16 offset = load(query_columns_.offsets + column + j);
        const F16 scale = load(query_columns_.scales + column + j);
        for (std::size_t i = 0; i < height; i++)
          store(of_queries_ + i * query_stride() + column - first + j,
                to_float(load(dots + i * kPanelColumns + j) - offset) * scale);
      }
    }
    for (std::size_t i = 0; i < height; i++) {
      // Query row + i meets key 0 at column length - 1 - (row + i).
      const float* of_query = of_queries_ + i * query_stride() + (length_ - 1 - row - i) - first;
      const float* of_key = of_keys_ + (row % kRelativeQueries + i) * columns_;
      const F16 factor = splat(factors[i]);
      for (std::size_t j = 0; j < columns_; j += kLanes) {
        float* score = scores + i * columns_ + j;
        store(score, fma(load(score) + load(of_query + j), factor, load(of_key + j)));
      }
      factors[i] = 1.0f;
    }
  }

 private:
  // Columns of one tile of keys: every query of a block, at every place in a panel, and what a transposition reads more.
  static constexpr std::size_t kKeyStride = kRelativeQueries + kRelativeKeys + 2 * kMostPanelColumns;
  INLINE_MEMBER std::size_t query_stride() const { return columns_ + kFloatRows + 2 * kMostPanelColumns; }

  INLINE_MEMBER const Weight* panel(const PositionColumns& columns, std::size_t column) const {
    return reinterpret_cast<const Weight*>(columns.panels) + column * size_;
  }

  // terms[c] = (mean * query of distance c + bias) to base two. Two rows of 8 bits stand for the mean: the second holds
  // what the first leaves.
  INLINE_MEMBER void add_mean(const float* mean, float* left, Value* row) {
    alignas(kAlignment) std::int32_t dots[kPanelColumns];
    alignas(kAlignment) float scales[kLanes];
    const std::size_t count = round_up(2 * length_ - 1, kPanelColumns);
    for (std::size_t c = 0; c < count; c += kLanes) store(terms_ + c, load(key_columns_.bias + c));
    for (std::size_t i = 0; i < size_; i += kLanes) store(left + i, load(mean + i));
    for (std::size_t step = 0; step < 2; step++) {
      const SignedRows rounded(left, 0, 0, 1, 0, nullptr, size_, scales);
      rounded.write(0, kQueryOffset, row);
      for (std::size_t i = 0; i < size_; i++) {
        const float taken = scales[0] * static_cast<float>(static_cast<std::int32_t>(row[i]) - kQueryOffset);
        left[i] = left[i] - taken;
      }
      for (std::size_t column = 0; column < count; column += kPanelColumns) {
        dot_rows<1>(1, reinterpret_cast<const unsigned char*>(row), 0, panel(key_columns_, column), size_ / kWord, dots);
        for (std::size_t j = 0; j < kPanelColumns; j += kLanes) {
          const std::size_t c = column + j;
          const F16 dot = to_float(load(dots + j) - load(key_columns_.offsets + c));
          store(terms_ + c, fma(dot, splat(scales[0]) * load(key_columns_.scales + c), load(terms_ + c)));
        }
      }
    }
    for (std::size_t c = 0; c < count; c += kLanes) store(terms_ + c, load(terms_ + c) * splat(kToBaseTwo));
  }

  // of_keys[i][j] = key j * query of distance first + i - j, for `count` queries. A key's products lie side by side for
  // growing i: in rows that begin one column earlier for each next key, they are a matrix that is transposed.
  INLINE_MEMBER void multiply_keys(std::size_t first, std::size_t count) {
    alignas(kAlignment) std::int32_t dots[kFloatRows * kPanelColumns];
    for (std::size_t key = 0; key < length_; key += kRelativeKeys) {
      const std::size_t height = length_ - key < kRelativeKeys ? length_ - key : kRelativeKeys;
      const std::size_t lowest = first + length_ - key - height, start = lowest / kPanelColumns * kPanelColumns;
      const std::size_t end = first + count + length_ - 1 - key;
      for (std::size_t column = start; column < end; column += kPanelColumns)
        for (std::size_t upper = 0; upper < height; upper += kFloatRows) {
          const std::size_t rows = height - upper < kFloatRows ? height - upper : kFloatRows;
          dot_rows<kFloatRows>(rows, reinterpret_cast<const unsigned char*>(keys_ + (key + upper) * size_),
                               size_ * sizeof(Value), panel(key_columns_, column), size_ / kWord, dots);
          for (std::size_t j = 0; j < kPanelColumns; j += kLanes) {
            const I16 offset = load(key_columns_.offsets + column + j);
            const F16 scale = load(key_columns_.scales + column + j), term = load(terms_ + column + j);
            float* to = of_tile_ + upper * kKeyStride + column - start + j;
            for (std::size_t i = 0; i < rows; i++)
              store(to + i * kKeyStride, fma(to_float(load(dots + i * kPanelColumns + j) - offset),
                                             splat(factors_[key + upper + i]) * scale, term));
          }
        }
      for (std::size_t i = 0; i < count; i += 4)
        for (std::size_t j = 0; j < height; j += 4)
          transpose(of_tile_ + j * kKeyStride + (first + i + length_ - 1 - key - j) - start,
                    (kKeyStride - 1) * sizeof(float), of_keys_ + i * columns_ + key + j, columns_ * sizeof(float));
    }
  }

  PositionColumns query_columns_{}, key_columns_{};     // what queries and keys are multiplied by
  std::size_t length_ = 0, size_ = 0, columns_ = 0;     // columns_: length, in whole panels
  const Value* keys_ = nullptr;
  float* terms_ = nullptr;                              // [columns of distances]
  float* factors_ = nullptr;                            // [columns_]: the keys' scales, to base two
  float* of_tile_ = nullptr;                            // [kRelativeKeys][kKeyStride]: of some keys, columns are distances
  float* of_keys_ = nullptr;                            // [kRelativeQueries][columns_]: of a block's queries and all keys
  float* of_queries_ = nullptr;                         // [kFloatRows][query_stride()]: of a tile's, columns are distances
};

}  // namespace
}  // namespace PAIRSCORE_ISA
}  // namespace pairscore
