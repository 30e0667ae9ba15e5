// Linear layers in int8, made of the product of tile.h or tile_narrow.h.
#pragma once

#include "functions.h"
#include "kernels.h"

namespace pairscore {
namespace PAIRSCORE_ISA {
namespace {

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
  const Finish finish{residual, residual_stride, out, out_stride};
  with(activation, [&](auto chosen) { linear_with<chosen.value>(rows, count, weights, finish, scratch); });
}

}  // namespace
}  // namespace PAIRSCORE_ISA
}  // namespace pairscore
