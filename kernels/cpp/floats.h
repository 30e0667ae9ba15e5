// Products, norms and all other operations in float alone.
#pragma once

#include "functions.h"
#include "kernels.h"

namespace pairscore {
namespace PAIRSCORE_ISA {
namespace {

constexpr std::size_t kFloatVectors = PAIRSCORE_FLOAT_VECTORS;  // columns of one float product, in vectors
// Rows of one float product, and queries of one tile of attention.
constexpr std::size_t kFloatRows = kTileRows < kMostFloatRows ? kTileRows : kMostFloatRows;

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

// The same for any number of rows.
INLINE void float_products(std::size_t count, const float* a, std::size_t a_stride, const float* b, std::size_t b_stride,
                           std::size_t depth, std::size_t columns, const float* factors, float* out,
                           std::size_t out_stride) {
  for (std::size_t row = 0; row < count; row += kFloatRows)
    float_product<kFloatRows>(count - row < kFloatRows ? count - row : kFloatRows, a + row * a_stride, a_stride, b,
                              b_stride, depth, columns, factors ? factors + row : nullptr, out + row * out_stride,
                              out_stride);
}

void activate(Activation activation, const float* values, std::size_t count, float* out) {
  with(activation, [&](auto chosen) {
    for (std::size_t i = 0; i < count; i += kLanes) store(out + i, activated<chosen.value>(load(values + i)));
  });
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
  float_products(count, rows, stride, weights, outputs, inputs, outputs, nullptr, out, out_stride);
  for (std::size_t row = 0; row < count; row++) {
    float* y = out + row * out_stride;
    for (std::size_t j = 0; j < outputs; j += kLanes) store(y + j, load(y + j) + load(bias + j));
    activate(activation, y, outputs, y);
  }
}

// Each step runs for sixteen heads at once: their scores lie beside each other.
void state_attention(const float* asking, std::size_t heads, const float* states, std::size_t length, std::size_t size,
                     float* out, float* scratch) {
  const std::size_t columns = round_up(heads, kLanes);
  float* turned = scratch;                        // [size][columns]: what the heads ask
  float* scores = turned + size * columns;        // [length][columns]
  float* weights = scores + length * columns;     // [columns][length]
  float* factors = weights + length * columns;    // [columns], 1 / the sum of a head's weights
  for (std::size_t i = 0; i < size; i++)
    for (std::size_t head = 0; head < columns; head++)
      turned[i * columns + head] = head < heads ? asking[head * size + i] : 0.0f;
  float_products(length, states, size, turned, columns, size, columns, nullptr, scores, columns);
  for (std::size_t head = 0; head < columns; head += kLanes) {
    F16 high = load(scores + head), all = splat(0.0f), total = splat(0.0f);
    for (std::size_t token = 0; token < length; token++) {
      const F16 score = load(scores + token * columns + head);
      high = max(score, high);
      all = all + score;
    }
    for (std::size_t token = 0; token < length; token++) {
      const F16 weight = exponential(load(scores + token * columns + head) - high);
      total = total + weight;
      alignas(kAlignment) float of_head[kLanes];
      store(of_head, weight);
      for (std::size_t lane = 0; lane < kLanes; lane++) weights[(head + lane) * length + token] = of_head[lane];
    }
    store(factors + head, splat(1.0f) / total + (all - all));  // no number where a score is none
  }
  float_products(heads, weights, length, states, size, length, size, factors, out, size);
}

template <std::size_t kRows>
INLINE void norm_rows(const float* x, std::size_t stride, std::size_t size, std::size_t counted, const float* weight,
                      const float* bias, float epsilon, float* y, std::size_t out_stride) {
  float average[kRows];
  F16 total[kRows], mean[kRows], squares[kRows], factor[kRows];
  for (std::size_t r = 0; r < kRows; r++) total[r] = squares[r] = splat(0.0f);
  for (std::size_t i = 0; i < size; i += kLanes) {
    PAIRSCORE_UNROLL
    for (std::size_t r = 0; r < kRows; r++) total[r] = total[r] + load(x + r * stride + i);
  }
  for (std::size_t r = 0; r < kRows; r++) {
    average[r] = sum(total[r]) / static_cast<float>(counted);
    mean[r] = splat(average[r]);
  }
  for (std::size_t i = 0; i < size; i += kLanes) {
    PAIRSCORE_UNROLL
    for (std::size_t r = 0; r < kRows; r++) {
      const F16 centred = load(x + r * stride + i) - mean[r];
      squares[r] = fma(centred, centred, squares[r]);
    }
  }
  for (std::size_t r = 0; r < kRows; r++) {
    float spread = sum(squares[r]);
    if (counted < size) spread -= static_cast<float>(size - counted) * (average[r] * average[r]);
    factor[r] = splat(1.0f / square_root(spread / static_cast<float>(counted) + epsilon));
  }
  for (std::size_t i = 0; i < size; i += kLanes) {
    const F16 times = load(weight + i), plus = load(bias + i);
    PAIRSCORE_UNROLL
    for (std::size_t r = 0; r < kRows; r++)
      store(y + r * out_stride + i, fma((load(x + r * stride + i) - mean[r]) * factor[r], times, plus));
  }
}

// Several rows at once: one by one, the processor would wait for each addition to a row's sum.
void layer_norm(const float* rows, std::size_t stride, std::size_t count, std::size_t size, std::size_t counted,
                const float* weight, const float* bias, float epsilon, float* out, std::size_t out_stride) {
  constexpr std::size_t kRows = 2 * kFloatVectors;
  std::size_t row = 0;
  for (; row + kRows <= count; row += kRows)
    norm_rows<kRows>(rows + row * stride, stride, size, counted, weight, bias, epsilon, out + row * out_stride, out_stride);
  for (; row < count; row++)
    norm_rows<1>(rows + row * stride, stride, size, counted, weight, bias, epsilon, out + row * out_stride, out_stride);
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

}  // namespace
}  // namespace PAIRSCORE_ISA
}  // namespace pairscore
