// Linear layers in int8, made of products of tiles.
#pragma once

#include "functions.h"
#include "kernels.h"

namespace pairscore {
namespace PAIRSCORE_ISA {
namespace {

// Rows whose sums wait at once, a multiple of every tile's, for layers with several groups.
constexpr std::size_t kSumRows = 96;

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

// The end of a tile's product: takes off what the zero points added, scales the sums, and adds them to the bias, if it is
// the first group, or to `sums`. The last group's results are finished, those of the others stay in `sums`. All whole
// numbers of a group of up to 512 inputs are below 2^24, where floats are exact.
template <bool kFirst, bool kLast, Activation kActivation>
struct ScaledSums {
  std::size_t width;              // of the panel's columns, those that the layer has
  GroupScales group;
  const float* bias;
  float* sums;
  Finish finish;

  // What the rows of one vector of columns have in common.
  struct Columns {
    F16 minus_sums, scales, bias;
  };
  INLINE_MEMBER Columns columns(std::size_t j) const {
    return {load(group.minus_sums + j), load(group.columns + j), kFirst ? load(bias + j) : splat(0.0f)};
  }

  INLINE_MEMBER void operator()(std::size_t i, std::size_t j, I16 dots) const {
    if (j < width) end(i, j, dots, columns(j));
  }

  INLINE_MEMBER void end(std::size_t i, std::size_t j, I16 dots, const Columns& shared) const {
    const std::size_t place = i * kPanelColumns + j;
    F16 before = kFirst ? shared.bias : load(sums + place);
    F16 dot = fma(splat(group.zero_points[i * group.stride]), shared.minus_sums, to_float(dots));
    F16 y = fma(dot, splat(group.rows[i * group.stride]) * shared.scales, before);
    if constexpr (kLast) {
      y = activated<kActivation>(y);
      if (finish.residual) y = y + load(finish.residual + i * finish.residual_stride + j);
      store(finish.out + i * finish.out_stride + j, y);
    } else {
      store(sums + place, y);
    }
  }
};

// products(height, rows, row_bytes, panel, words, in_registers, end) computes a tile of `height` rows, from 1 to kTileRows,
// and calls end(i, j, sums) for each of its vectors, at the latest when products.finish() is called. in_registers: an end
// takes few instructions.
template <Activation kActivation, class Products>
void linear_with(const QuantizedRows& rows, std::size_t count, const LinearWeights& weights, const Finish& finish,
                 unsigned char* scratch, Products& products) {
  static_assert(kSumRows % kTileRows == 0, "whole tiles");
  constexpr bool kShort = kActivation != Activation::gelu_tanh && kActivation != Activation::tanh;
  const std::size_t groups = weights.inputs / weights.group_size;
  alignas(kAlignment) float sums[kSumRows * kPanelColumns];
  for (std::size_t block = 0; block < count; block += kSumRows) {
    const std::size_t stop = count - block < kSumRows ? count : block + kSumRows;
    // The weights of one panel and group stay in the first-level cache while all rows pass by them.
    for (std::size_t column = 0; column < weights.outputs; column += kPanelColumns) {
      const Weight* panel =
          prepare_panel(weights.weights + column * weights.inputs, weights.inputs * kPanelColumns, scratch);
      const std::size_t width = weights.outputs - column < kPanelColumns ? weights.outputs - column : kPanelColumns;
      const float* bias = weights.bias + column;
      for (std::size_t group = 0; group < groups; group++) {
        const std::size_t first = group * weights.group_size, column_group = group * weights.padded_outputs + column;
        for (std::size_t tile = block; tile < stop; tile += kTileRows) {
          const std::size_t height = stop - tile < kTileRows ? stop - tile : kTileRows;
          const std::size_t row_group = tile * groups + group;
          const GroupScales scales{rows.scales + row_group, rows.zero_points + row_group, groups,
                                   weights.scales + column_group, weights.minus_sums + column_group};
          const float* residual = finish.residual;
          if (residual) residual += tile * finish.residual_stride + column;
          const Finish place{residual, finish.residual_stride, finish.out + tile * finish.out_stride + column,
                             finish.out_stride};
          float* before = sums + (tile - block) * kPanelColumns;
          auto run = [&](bool in_registers, const auto& end) INLINE_LAMBDA {
            products(height, rows.values + tile * rows.row_bytes + first * sizeof(Value), rows.row_bytes,
                     panel + first * kPanelColumns, weights.group_size / kWord, in_registers, end);
          };
          if (groups == 1)
            run(kShort, ScaledSums<true, true, kActivation>{width, scales, bias, before, place});
          else if (group == 0)
            run(true, ScaledSums<true, false, Activation::none>{width, scales, bias, before, place});
          else if (group + 1 < groups)
            run(true, ScaledSums<false, false, Activation::none>{width, scales, bias, before, place});
          else
            run(kShort, ScaledSums<false, true, kActivation>{width, scales, bias, before, place});
        }
      }
    }
  }
  products.finish();
}

template <class Products>
void linear_by(Products& products, const QuantizedRows& rows, std::size_t count, const LinearWeights& weights,
               Activation activation, const float* residual, std::size_t residual_stride, float* out,
               std::size_t out_stride, unsigned char* scratch) {
  const Finish finish{residual, residual_stride, out, out_stride};
  with(activation, [&](auto chosen) { linear_with<chosen.value>(rows, count, weights, finish, scratch, products); });
}

}  // namespace
}  // namespace PAIRSCORE_ISA
}  // namespace pairscore
