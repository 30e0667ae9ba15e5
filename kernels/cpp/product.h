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

  INLINE_MEMBER void operator()(std::size_t i, std::size_t j, I16 dots) const {
    if (j >= width) return;
    const std::size_t place = i * kPanelColumns + j;
    F16 before = kFirst ? load(bias + j) : load(sums + place);
    F16 dot = fma(splat(group.zero_points[i * group.stride]), load(group.minus_sums + j), to_float(dots));
    F16 y = fma(dot, splat(group.rows[i * group.stride]) * load(group.columns + j), before);
    if constexpr (kLast) {
      y = activated<kActivation>(y);
      if (finish.residual) y = y + load(finish.residual + i * finish.residual_stride + j);
      store(finish.out + i * finish.out_stride + j, y);
    } else {
      store(sums + place, y);
    }
  }
};

// The sums of a tile, to [rows][kPanelColumns].
struct StoredSums {
  std::int32_t* out;

  INLINE_MEMBER void operator()(std::size_t i, std::size_t j, I16 dots) const {
    store(out + i * kPanelColumns + j, dots);
  }
};

// A tile of `height` rows, from 1 to kRows.
template <std::size_t kRows>
INLINE void dot_rows(std::size_t height, const unsigned char* rows, std::size_t row_bytes, const Weight* weights,
                     std::size_t words, std::int32_t* out) {
  if (height == kRows) return dot_tile<kRows>(rows, row_bytes, weights, words, StoredSums{out});
  if constexpr (kRows > 1) dot_rows<kRows - 1>(height, rows, row_bytes, weights, words, out);
}

// A tile of `height` rows, up to kRows, with any end. Whole tiles end in registers, others, and what takes many
// instructions, in memory.
template <std::size_t kRows, class End>
INLINE void dot_and_end(std::size_t height, const unsigned char* rows, std::size_t row_bytes, const Weight* weights,
                        std::size_t words, bool in_registers, const End& end) {
  if (in_registers && height == kRows) return dot_tile<kRows>(rows, row_bytes, weights, words, end);
  alignas(kAlignment) std::int32_t dots[kRows * kPanelColumns];
  dot_rows<kRows>(height, rows, row_bytes, weights, words, dots);
  for (std::size_t i = 0; i < height; i++)
    for (std::size_t j = 0; j < kPanelColumns; j += kLanes) end(i, j, load(dots + i * kPanelColumns + j));
}

template <Activation kActivation>
void linear_with(const QuantizedRows& rows, std::size_t count, const LinearWeights& weights, const Finish& finish,
                 unsigned char* scratch) {
  constexpr bool kShort = kActivation != Activation::gelu_tanh && kActivation != Activation::tanh;
  const std::size_t groups = weights.inputs / weights.group_size;
  const std::size_t panel_size = weights.inputs * kPanelColumns;
  alignas(kAlignment) float sums[kTileRows * kPanelColumns];
  // One panel of weights stays in the first-level cache while all rows pass by it.
  for (std::size_t column = 0; column < weights.outputs; column += kPanelColumns) {
    const Weight* panel = prepare_panel(weights.weights + column * weights.inputs, panel_size, scratch);
    const std::size_t width = weights.outputs - column < kPanelColumns ? weights.outputs - column : kPanelColumns;
    for (std::size_t tile = 0; tile < count; tile += kTileRows) {
      const std::size_t height = count - tile < kTileRows ? count - tile : kTileRows;
      const float* residual = finish.residual;
      if (residual) residual += tile * finish.residual_stride + column;
      const Finish place{residual, finish.residual_stride, finish.out + tile * finish.out_stride + column,
                         finish.out_stride};
      for (std::size_t group = 0; group < groups; group++) {
        const std::size_t first = group * weights.group_size;
        const std::size_t row_group = tile * groups + group, column_group = group * weights.padded_outputs + column;
        const GroupScales scales{rows.scales + row_group, rows.zero_points + row_group, groups,
                                 weights.scales + column_group, weights.minus_sums + column_group};
        const float* bias = weights.bias + column;
        auto run = [&](bool in_registers, const auto& end) INLINE_LAMBDA {
          dot_and_end<kTileRows>(height, rows.values + tile * rows.row_bytes + first * sizeof(Value), rows.row_bytes,
                                 panel + first * kPanelColumns, weights.group_size / kWord, in_registers, end);
        };
        if (groups == 1)
          run(kShort, ScaledSums<true, true, kActivation>{width, scales, bias, sums, place});
        else if (group == 0)
          run(true, ScaledSums<true, false, Activation::none>{width, scales, bias, sums, place});
        else if (group + 1 < groups)
          run(true, ScaledSums<false, false, Activation::none>{width, scales, bias, sums, place});
        else
          run(kShort, ScaledSums<false, true, kActivation>{width, scales, bias, sums, place});
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
