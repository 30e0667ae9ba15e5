// Every operation of the encoder, written once over the sixteen lanes of vector_*.h and the product of tile.h.
//
// An isa_*.cpp includes this file last and exports kTable. Rules that keep all instruction sets byte for byte equal:
// sums run in one written order; `fma` stands where a multiply-add is fused and nowhere else is one (compile with
// -ffp-contract=off); integers are exact. Nothing here may call an inline function of the standard library: the linker
// keeps one copy for the whole program, and it could be one that was compiled for a newer processor.
#pragma once

#include <cmath>

#include "functions.h"
#include "kernels.h"

namespace pairscore {
namespace PAIRSCORE_ISA {
namespace {

constexpr std::size_t kFloatVectors = PAIRSCORE_FLOAT_VECTORS;  // columns of one float product, in vectors
// Rows of one float product, and queries of one tile of attention.
constexpr std::size_t kFloatRows = kTileRows < kMostFloatRows ? kTileRows : kMostFloatRows;
static_assert(kFloatRows >= 4 && kPanelColumns <= kMostPanelColumns, "attention() and attention_scratch() count on it");

// ---- int8 -----------------------------------------------------------------------------------------------------------

// How a group of values becomes bytes.
struct Steps {
  float scale, inverse;
  std::int32_t zero;
};

// low and high: the smallest and the largest value of each lane, and 0.
INLINE Steps steps(F16 low, F16 high) {
  float lowest = smallest(low);
  float scale = (largest(high) - lowest) / 255.0f;
  if (scale == 0.0f) scale = 1.0f;
  float inverse = 1.0f / scale;
  std::int32_t zero = nearest(-lowest * inverse);
  return {scale, inverse, zero < 0 ? 0 : zero > 255 ? 255 : zero};
}

INLINE I16 rounded(F16 value, const Steps& by) { return nearest(value * splat(by.inverse)) + splat(by.zero); }

template <bool kSmooth>
void quantize_with(const float* rows, std::size_t stride, std::size_t count, std::size_t inputs,
                   std::size_t group_size, const float* smooth, const QuantizedRows& quantized) {
  std::size_t groups = inputs / group_size;
  for (std::size_t row = 0; row < count; row++) {
    const float* x = rows + row * stride;
    Value* out = reinterpret_cast<Value*>(quantized.values + row * quantized.row_bytes);
    for (std::size_t group = 0; group < groups; group++) {
      std::size_t first = group * group_size, end = first + group_size;
      F16 low = splat(0.0f), high = splat(0.0f);
      for (std::size_t i = first; i < end; i += kLanes) {
        F16 value = kSmooth ? load(x + i) * load(smooth + i) : load(x + i);
        low = min(value, low);
        high = max(value, high);
      }
      Steps by = steps(low, high);
      for (std::size_t i = first; i < end; i += kLanes)
        store_clamped(out + i, rounded(kSmooth ? load(x + i) * load(smooth + i) : load(x + i), by));
      quantized.scales[row * groups + group] = by.scale;
      quantized.zero_points[row * groups + group] = static_cast<float>(by.zero);
    }
  }
}

void quantize(const float* rows, std::size_t stride, std::size_t count, std::size_t inputs, std::size_t group_size,
              const float* smooth, const QuantizedRows& quantized) {
  if (smooth) return quantize_with<true>(rows, stride, count, inputs, group_size, smooth, quantized);
  quantize_with<false>(rows, stride, count, inputs, group_size, smooth, quantized);
}

template <Activation kActivation>
void quantize_gated_with(float* rows, std::size_t stride, std::size_t count, std::size_t inputs,
                         std::size_t group_size, const float* smooth, const QuantizedRows& quantized) {
  std::size_t groups = inputs / group_size;
  for (std::size_t row = 0; row < count; row++) {
    float* x = rows + row * stride;
    Value* out = reinterpret_cast<Value*>(quantized.values + row * quantized.row_bytes);
    for (std::size_t group = 0; group < groups; group++) {
      std::size_t first = group * group_size, end = first + group_size;
      F16 low = splat(0.0f), high = splat(0.0f);
      for (std::size_t i = first; i < end; i += kLanes) {
        F16 value = activated<kActivation>(load(x + i)) * load(x + inputs + i);
        if (smooth) value = value * load(smooth + i);
        store(x + i, value);
        low = min(value, low);
        high = max(value, high);
      }
      Steps by = steps(low, high);
      for (std::size_t i = first; i < end; i += kLanes) store_clamped(out + i, rounded(load(x + i), by));
      quantized.scales[row * groups + group] = by.scale;
      quantized.zero_points[row * groups + group] = static_cast<float>(by.zero);
    }
  }
}

void quantize_gated(Activation activation, float* rows, std::size_t stride, std::size_t count, std::size_t inputs,
                    std::size_t group_size, const float* smooth, const QuantizedRows& quantized) {
  auto run = quantize_gated_with<Activation::none>;
  switch (activation) {
    case Activation::none: break;
    case Activation::relu: run = quantize_gated_with<Activation::relu>; break;
    case Activation::gelu: run = quantize_gated_with<Activation::gelu>; break;
    case Activation::gelu_tanh: run = quantize_gated_with<Activation::gelu_tanh>; break;
    case Activation::tanh: run = quantize_gated_with<Activation::tanh>; break;
  }
  run(rows, stride, count, inputs, group_size, smooth, quantized);
}

// What `linear` adds to finished results, and where they go: from a tile's first row and a panel's first column on.
struct Finish {
  const float* residual;          // null: nothing
  std::size_t residual_stride;
  float* out;
  std::size_t out_stride;
};

// The scales of one group, for a tile's rows and a panel's columns.
struct GroupScales {
  const float* rows;
  const float* zero_points;
  std::size_t stride;             // from one row's scale and zero point to the next
  const float* columns;
  const float* minus_sums;
};

// Takes off the dots of a group what the zero points added, scales them, and adds them to the bias, if it is the first
// group, or to `sums`. The last group's results are finished, those of the others stay in `sums`. All whole numbers of a
// group of up to 512 inputs are below 2^24, where floats are exact.
template <bool kFirst, bool kLast, Activation kActivation>
INLINE void scale_dots(std::size_t height, std::size_t width, const GroupScales& group, const std::int32_t* dots,
                       const float* bias, float* sums, const Finish& finish) {
  for (std::size_t j = 0; j < width; j += kLanes) {
    const F16 column_scales = load(group.columns + j), minus_sums = load(group.minus_sums + j);
    for (std::size_t i = 0; i < height; i++) {
      std::size_t place = i * kPanelColumns + j;
      F16 before = kFirst ? load(bias + j) : load(sums + place);
      F16 dot = fma(splat(group.zero_points[i * group.stride]), minus_sums, to_float(load(dots + place)));
      F16 y = fma(dot, splat(group.rows[i * group.stride]) * column_scales, before);
      if constexpr (kLast) {
        y = activated<kActivation>(y);
        if (finish.residual) y = y + load(finish.residual + i * finish.residual_stride + j);
        store(finish.out + i * finish.out_stride + j, y);
      } else {
        store(sums + place, y);
      }
    }
  }
}

// dot_tile for `height` rows, from 1 to kRows.
template <std::size_t kRows>
INLINE void dot_rows(std::size_t height, const unsigned char* rows, std::size_t row_bytes, const Weight* weights,
                     std::size_t words, std::int32_t* out) {
  if (height == kRows) return dot_tile<kRows>(rows, row_bytes, weights, words, out);
  if constexpr (kRows > 1) dot_rows<kRows - 1>(height, rows, row_bytes, weights, words, out);
}

template <Activation kActivation>
void linear_with(const QuantizedRows& rows, std::size_t count, const LinearWeights& weights, const Finish& finish,
                 unsigned char* scratch) {
  std::size_t groups = weights.inputs / weights.group_size;
  std::size_t panel_size = weights.inputs * kPanelColumns;
  alignas(kAlignment) std::int32_t dots[kTileRows * kPanelColumns];
  alignas(kAlignment) float sums[kTileRows * kPanelColumns];
  // One panel of weights stays in the first-level cache while all rows pass by it.
  for (std::size_t column = 0; column < weights.outputs; column += kPanelColumns) {
    const Weight* panel = prepare_panel(weights.weights + column * weights.inputs, panel_size, scratch);
    std::size_t width = weights.outputs - column < kPanelColumns ? weights.outputs - column : kPanelColumns;
    for (std::size_t tile = 0; tile < count; tile += kTileRows) {
      std::size_t height = count - tile < kTileRows ? count - tile : kTileRows;
      const float* residual = finish.residual;
      if (residual) residual += tile * finish.residual_stride + column;
      const Finish place{residual, finish.residual_stride, finish.out + tile * finish.out_stride + column,
                         finish.out_stride};
      for (std::size_t group = 0; group < groups; group++) {
        std::size_t first = group * weights.group_size;
        dot_rows<kTileRows>(height, rows.values + tile * rows.row_bytes + first * sizeof(Value), rows.row_bytes,
                            panel + first * kPanelColumns, weights.group_size / kWord, dots);
        std::size_t row_group = tile * groups + group, column_group = group * weights.padded_outputs + column;
        GroupScales scales{rows.scales + row_group, rows.zero_points + row_group, groups, weights.scales + column_group,
                           weights.minus_sums + column_group};
        const float* bias = weights.bias + column;
        if (groups == 1)
          scale_dots<true, true, kActivation>(height, width, scales, dots, bias, sums, place);
        else if (group == 0)
          scale_dots<true, false, kActivation>(height, width, scales, dots, bias, sums, place);
        else if (group + 1 < groups)
          scale_dots<false, false, kActivation>(height, width, scales, dots, bias, sums, place);
        else
          scale_dots<false, true, kActivation>(height, width, scales, dots, bias, sums, place);
      }
    }
  }
}

void linear(const QuantizedRows& rows, std::size_t count, const LinearWeights& weights, Activation activation,
            const float* residual, std::size_t residual_stride, float* out, std::size_t out_stride,
            unsigned char* scratch) {
  Finish finish{residual, residual_stride, out, out_stride};
  switch (activation) {
    case Activation::none: return linear_with<Activation::none>(rows, count, weights, finish, scratch);
    case Activation::relu: return linear_with<Activation::relu>(rows, count, weights, finish, scratch);
    case Activation::gelu: return linear_with<Activation::gelu>(rows, count, weights, finish, scratch);
    case Activation::gelu_tanh: return linear_with<Activation::gelu_tanh>(rows, count, weights, finish, scratch);
    case Activation::tanh: return linear_with<Activation::tanh>(rows, count, weights, finish, scratch);
  }
}

// ---- float ----------------------------------------------------------------------------------------------------------

// out[i][j] = (a[i][0] b[0][j] + a[i][1] b[1][j] + ..., added in that order) * factors[i], for kRows rows and
// kVectors * 16 columns; without factors where they are null.
template <std::size_t kRows, std::size_t kVectors>
NOINLINE void float_tile(const float* a, std::size_t a_stride, const float* b, std::size_t b_stride, std::size_t depth,
                         const float* factors, float* out, std::size_t out_stride) {
  F16 sums[kRows][kVectors];
  PAIRSCORE_UNROLL
  for (std::size_t i = 0; i < kRows; i++) {
    PAIRSCORE_UNROLL
    for (std::size_t j = 0; j < kVectors; j++) sums[i][j] = splat(0.0f);
  }
  for (std::size_t k = 0; k < depth; k++) {
    F16 right[kVectors];
    PAIRSCORE_UNROLL
    for (std::size_t j = 0; j < kVectors; j++) right[j] = load(b + k * b_stride + j * kLanes);
    PAIRSCORE_UNROLL
    for (std::size_t i = 0; i < kRows; i++) {
      F16 left = splat(a[i * a_stride + k]);
      PAIRSCORE_UNROLL
      for (std::size_t j = 0; j < kVectors; j++) {
        sums[i][j] = fma(left, right[j], sums[i][j]);
        keep(sums[i][j], left);
      }
    }
  }
  PAIRSCORE_UNROLL
  for (std::size_t i = 0; i < kRows; i++) {
    PAIRSCORE_UNROLL
    for (std::size_t j = 0; j < kVectors; j++)
      store(out + i * out_stride + j * kLanes, factors ? sums[i][j] * splat(factors[i]) : sums[i][j]);
  }
}

// The same for `height` rows, from 1 to kRows, and any number of whole vectors.
template <std::size_t kRows>
INLINE void float_product(std::size_t height, const float* a, std::size_t a_stride, const float* b,
                          std::size_t b_stride, std::size_t depth, std::size_t columns, const float* factors,
                          float* out, std::size_t out_stride) {
  if (height < kRows) {
    if constexpr (kRows > 1)
      float_product<kRows - 1>(height, a, a_stride, b, b_stride, depth, columns, factors, out, out_stride);
    return;
  }
  constexpr std::size_t kStep = kFloatVectors * kLanes;
  std::size_t column = 0;
  for (; column + kStep <= columns; column += kStep)
    float_tile<kRows, kFloatVectors>(a, a_stride, b + column, b_stride, depth, factors, out + column, out_stride);
  for (; column < columns; column += kLanes)
    float_tile<kRows, 1>(a, a_stride, b + column, b_stride, depth, factors, out + column, out_stride);
}

template <Activation kActivation>
void activate_with(const float* values, std::size_t count, float* out) {
  for (std::size_t i = 0; i < count; i += kLanes) store(out + i, activated<kActivation>(load(values + i)));
}

void activate(Activation activation, const float* values, std::size_t count, float* out) {
  switch (activation) {
    case Activation::none: return activate_with<Activation::none>(values, count, out);
    case Activation::relu: return activate_with<Activation::relu>(values, count, out);
    case Activation::gelu: return activate_with<Activation::gelu>(values, count, out);
    case Activation::gelu_tanh: return activate_with<Activation::gelu_tanh>(values, count, out);
    case Activation::tanh: return activate_with<Activation::tanh>(values, count, out);
  }
}

void exponential_of(const float* values, std::size_t count, float* out) {
  for (std::size_t i = 0; i < count; i += kLanes) store(out + i, exponential(load(values + i)));
}

void rotate(float* rows, std::size_t stride, std::size_t count, std::size_t heads, std::size_t head_size,
            const float* cosines, const float* sines) {
  std::size_t half = head_size / 2;
  for (std::size_t row = 0; row < count; row++)
    for (std::size_t head = 0; head < heads; head++) {
      float* x = rows + row * stride + head * head_size;
      for (std::size_t i = 0; i < half; i += kLanes) {
        F16 left = load(x + i), right = load(x + half + i);
        F16 cosine = load(cosines + row * half + i), sine = load(sines + row * half + i);
        store(x + i, left * cosine - right * sine);
        store(x + half + i, right * cosine + left * sine);
      }
    }
}

void mean(const float* rows, std::size_t stride, std::size_t count, std::size_t size, float* out) {
  for (std::size_t i = 0; i < size; i += kLanes) {
    F16 total = load(rows + i);
    for (std::size_t row = 1; row < count; row++) total = total + load(rows + row * stride + i);
    store(out + i, total / splat(static_cast<float>(count)));
  }
}

void dense(const float* rows, std::size_t stride, std::size_t count, std::size_t inputs, const float* weights,
           const float* bias, std::size_t outputs, Activation activation, float* out, std::size_t out_stride) {
  for (std::size_t row = 0; row < count; row += kFloatRows)
    float_product<kFloatRows>(count - row < kFloatRows ? count - row : kFloatRows, rows + row * stride, stride, weights,
                             outputs, inputs, outputs, nullptr, out + row * out_stride, out_stride);
  for (std::size_t row = 0; row < count; row++) {
    float* y = out + row * out_stride;
    for (std::size_t j = 0; j < outputs; j += kLanes) store(y + j, load(y + j) + load(bias + j));
    activate(activation, y, outputs, y);
  }
}

void layer_norm(const float* rows, std::size_t stride, std::size_t count, std::size_t size, const float* weight,
                const float* bias, float epsilon, float* out, std::size_t out_stride) {
  for (std::size_t row = 0; row < count; row++) {
    const float* x = rows + row * stride;
    float* y = out + row * out_stride;
    F16 total = splat(0.0f);
    for (std::size_t i = 0; i < size; i += kLanes) total = total + load(x + i);
    F16 mean = splat(sum(total) / static_cast<float>(size));
    F16 squares = splat(0.0f);
    for (std::size_t i = 0; i < size; i += kLanes) {
      F16 centred = load(x + i) - mean;
      squares = fma(centred, centred, squares);
    }
    float variance = sum(squares) / static_cast<float>(size);
    F16 factor = splat(1.0f / square_root(variance + epsilon));
    for (std::size_t i = 0; i < size; i += kLanes)
      store(y + i, fma((load(x + i) - mean) * factor, load(weight + i), load(bias + i)));
  }
}

// Tokens from `first` to before `end`.
struct Range {
  std::size_t first, end;
};

// Those that token `row` sees.
INLINE Range seen_from(const AttentionShape& shape, std::size_t row) {
  std::size_t reach = shape.window ? shape.window / 2 : shape.length;
  return {row < reach ? 0 : row - reach, row + reach < shape.length ? row + reach + 1 : shape.length};
}

// Signed 8-bit values of rows, less `centre` where that is not null. The largest of a row becomes 127 or -127. Each
// step runs for all rows before the next step begins: row by row, the processor would wait for a maximum and for two
// divisions.
class SignedRows {
 public:
  // `count` rows of x from `first` on, at most kMostPanelColumns; behind row `last` that row again. Writes their
  // scales, in whole vectors.
  INLINE_MEMBER SignedRows(const float* x, std::size_t stride, std::size_t first, std::size_t count, std::size_t last,
                           const float* centre, std::size_t size, float* scales)
      : centre_(centre), size_(size) {
    F16 zero = splat(0.0f), one = splat(1.0f);
    for (std::size_t i = 0; i < count; i++) {
      rows_[i] = x + (first + i < last ? first + i : last) * stride;
      F16 high = zero;
      for (std::size_t d = 0; d < size; d += kLanes) {
        F16 value = centred(i, d);
        high = max(max(value, zero - value), high);
      }
      inverses_[i] = largest(high);
    }
    for (std::size_t i = 0; i < count; i += kLanes) {
      F16 scale = load(inverses_ + i) / splat(127.0f);
      scale = scale + (one - where_greater(scale, zero, one));  // 1 where it is 0
      store(scales + i, scale);
      store(inverses_ + i, one / scale);
    }
  }

  // Row i, with offset added.
  template <class Element>
  INLINE_MEMBER void write(std::size_t i, std::int32_t offset, Element* out) const {
    F16 inverse = splat(inverses_[i]);
    for (std::size_t d = 0; d < size_; d += kLanes)
      store_clamped(out + d, nearest(centred(i, d) * inverse) + splat(offset));
  }

 private:
  INLINE_MEMBER F16 centred(std::size_t i, std::size_t d) const {
    return centre_ ? load(rows_[i] + d) - load(centre_ + d) : load(rows_[i] + d);
  }

  const float* centre_;
  std::size_t size_;
  const float* rows_[kMostPanelColumns];
  alignas(kAlignment) float inverses_[kMostPanelColumns] = {};
};

// The keys of one head as panels of signed 8-bit values, like the weights of a linear layer.
struct Keys {
  Weight* panels;                 // [columns / panel][head_size / word][panel][word]
  std::int32_t* offsets;          // [columns], what kQueryOffset adds to each product
  float* scales;                  // [columns]
};

// Queries are stored as unsigned values, which the product takes on its left: so much is added to each.
constexpr std::int32_t kQueryOffset = 128;

// Columns behind the last token repeat it. The keys' mean is taken off first: it moves all scores of a query alike,
// which softmax does not see, and leaves 8 bits for what tells the keys apart (SageAttention, arXiv 2410.02367).
// `rows` holds four rows of values.
INLINE void quantize_keys(const float* keys, std::size_t stride, std::size_t length, std::size_t size, float* mean,
                          Weight* rows, Value* offset_row, const Keys& quantized) {
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

// Parts of a piece of memory, each at the start of a cache line.
class Parts {
 public:
  explicit Parts(unsigned char* memory) : next_(memory) {}
  template <class Element>
  Element* take(std::size_t count) {
    unsigned char* part = next_;
    next_ += round_up(count * sizeof(Element), kAlignment);
    return reinterpret_cast<Element*>(part);
  }

 private:
  unsigned char* next_;
};

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
  quantize_keys(keys, stride, length, size, mean, reinterpret_cast<Weight*>(tile), offset_row, quantized);
  for (std::size_t token = 0; token < length; token++)
    for (std::size_t d = 0; d < size; d += kLanes)
      store(packed + token * size + d, load(values + token * stride + d));

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
    exponentials(shape, row, height, first, columns, scores, factors);
    float_product<kFloatRows>(height, scores, columns, packed + first * size, size, end - first, size, factors,
                             out + row * out_stride, out_stride);
  }
}

void embed(const std::int32_t* ids, const std::int32_t* type_ids, std::size_t length, std::size_t size,
           const float* words, const float* types, const float* positions, float* out) {
  for (std::size_t token = 0; token < length; token++) {
    const float* word = words + static_cast<std::size_t>(ids[token]) * size;
    const float* type = types ? types + static_cast<std::size_t>(type_ids[token]) * size : nullptr;
    for (std::size_t i = 0; i < size; i += kLanes) {
      F16 x = load(word + i);
      if (type) x = x + load(type + i);
      if (positions) x = x + load(positions + token * size + i);
      store(out + token * size + i, x);
    }
  }
}

constexpr Kernels kTable = {
    PAIRSCORE_NAME, kPanelColumns, kWord, sizeof(Value), quantize, quantize_gated, linear,
    dense,          layer_norm,    rotate, mean, attention, embed, activate, exponential_of,
};

}  // namespace
}  // namespace PAIRSCORE_ISA
}  // namespace pairscore
