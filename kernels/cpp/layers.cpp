#include "layers.h"

#include <algorithm>
#include <numeric>

namespace pairscore {

bool narrow_sums(const std::int8_t* weights, std::size_t count) {
  for (std::size_t first = 0; first + 8 <= count; first += 8) {
    std::int32_t above[2] = {0, 0}, below[2] = {0, 0};
    for (std::size_t i = 0; i < 8; i++) {
      const std::int32_t weight = weights[first + i];
      (weight > 0 ? above : below)[i / 2 % 2] += weight;
    }
    if (std::max(above[0], above[1]) > 128 || std::min(below[0], below[1]) < -128) return false;
  }
  return true;
}

PackedLinear::PackedLinear(const Kernels& kernels, std::size_t inputs, std::size_t group_size, std::size_t rotation,
                           const float* smooth, const std::vector<LinearSource>& sources)
    : inputs_(inputs), group_size_(group_size), rotation_(rotation) {
  for (const LinearSource& source : sources) outputs_ += source.outputs;
  const std::size_t panel = kernels.panel_columns, word = kernels.word, groups = inputs / group_size;
  padded_outputs_ = round_up(outputs_, panel);
  weights_ = Buffer<std::int8_t>(padded_outputs_ * inputs);
  minus_sums_ = Buffer<float>(groups * padded_outputs_);
  scales_ = Buffer<float>(groups * padded_outputs_);
  bias_ = Buffer<float>(padded_outputs_);
  if (smooth) {
    smooth_ = Buffer<float>(inputs);
    std::copy(smooth, smooth + inputs, smooth_.data());
  }
  std::size_t column = 0;
  for (const LinearSource& source : sources) {
    for (std::size_t j = 0; j < source.outputs; j++, column++) {
      const std::int8_t* row = source.weights + j * inputs;
      std::int8_t* packed = weights_.data() + column / panel * panel * inputs + column % panel * word;
      for (std::size_t k = 0; k < inputs; k += word) std::copy_n(row + k, word, packed + k * panel);
      for (std::size_t group = 0; group < groups; group++) {
        const std::int8_t* first = row + group * group_size;
        const std::int32_t sum = std::accumulate(first, first + group_size, 0);
        minus_sums_[group * padded_outputs_ + column] = static_cast<float>(-sum);
        scales_[group * padded_outputs_ + column] = source.scales[j * groups + group] * source.factor;
      }
      bias_[column] = source.bias[j] * source.factor;
    }
  }
}

std::vector<float> dequantized(const LinearSource& source, std::size_t inputs, std::size_t group_size,
                               std::size_t rotation, const float* smooth) {
  const std::size_t groups = inputs / group_size, block = std::max<std::size_t>(rotation, 1) * kLanes;
  std::vector<float> weights(source.outputs * inputs);
  std::vector<std::int32_t> turned(block);
  for (std::size_t j = 0; j < source.outputs; j++)
    for (std::size_t first = 0; first < inputs; first += block) {
      std::copy_n(source.weights + j * inputs + first, block, turned.begin());
      for (std::size_t half = kLanes; half < block; half *= 2)
        for (std::size_t i = 0; i < block; i++) {
          if (i & half) continue;
          const std::int32_t left = turned[i], right = turned[i + half];
          turned[i] = left + right;
          turned[i + half] = left - right;
        }
      const double scale = source.scales[j * groups + first / group_size];
      for (std::size_t i = 0; i < block; i++)
        weights[j * inputs + first + i] = static_cast<float>(turned[i] * scale * (smooth ? smooth[first + i] : 1.0f));
    }
  return weights;
}

LinearWeights PackedLinear::view() const {
  return {inputs_,         outputs_,           padded_outputs_, group_size_,
          weights_.data(), minus_sums_.data(), scales_.data(),  bias_.data()};
}

PackedDense::PackedDense(const float* weights, const float* bias, std::size_t outputs, std::size_t inputs)
    : inputs_(inputs), outputs_(outputs), weights_(inputs * padded_outputs()), bias_(padded_outputs()) {
  for (std::size_t j = 0; j < outputs; j++) {
    for (std::size_t k = 0; k < inputs; k++) weights_[k * padded_outputs() + j] = weights[j * inputs + k];
    bias_[j] = bias[j];
  }
}

void PackedDense::run(const Kernels& kernels, const float* rows, std::size_t stride, std::size_t count,
                      Activation activation, float* out, std::size_t out_stride) const {
  kernels.dense(rows, stride, count, inputs_, weights_.data(), bias_.data(), padded_outputs(), activation, out,
                out_stride);
}

void RowsBuffer::reserve(const Kernels& kernels, std::size_t count, std::size_t inputs, std::size_t group_size) {
  std::size_t groups = inputs / group_size;
  view_.row_bytes = quantized_row_bytes(kernels, inputs);
  values_.reserve(round_up(count, kMostTileRows) * view_.row_bytes);
  scales_.reserve(count * groups);
  zero_points_.reserve(count * groups);
  prepared_.reserve(kGroupsAtOnce * group_size);
  view_.values = values_.data();
  view_.scales = scales_.data();
  view_.zero_points = zero_points_.data();
  view_.prepared = prepared_.data();
}

void GatheredPositions::reserve(std::size_t heads, std::size_t head_size, std::size_t length) {
  const std::size_t columns = position_columns(length), bytes = columns * head_size * 2;
  head_size_ = head_size;
  length_ = length;
  heads_.resize(heads);
  panels_.reserve(2 * heads * bytes);
  offsets_.reserve(2 * heads * columns);
  scales_.reserve(4 * heads * columns);
  const auto part = [&](std::size_t place) -> PositionColumns {
    return {panels_.data() + place * bytes, offsets_.data() + place * columns, scales_.data() + 2 * place * columns,
            scales_.data() + (2 * place + 1) * columns};
  };
  for (std::size_t head = 0; head < heads; head++) heads_[head] = {part(2 * head), part(2 * head + 1)};
}

void GatheredPositions::gather(const Kernels& kernels, const PositionTable& keys, const PositionTable& queries,
                               const std::int32_t* rows) {
  const auto of_head = [&](const PositionTable& table, std::size_t head) -> PositionTable {
    return {table.values + head * head_size_, table.stride, table.scales + head, table.bias ? table.bias + head : nullptr,
            table.heads};
  };
  // The distance from a query to a key is minus that from the key to the query.
  for (std::size_t head = 0; head < heads_.size(); head++) {
    kernels.gather_positions(of_head(keys, head), rows + 2 * length_ - 2, -1, length_, head_size_, heads_[head].keys);
    kernels.gather_positions(of_head(queries, head), rows, 1, length_, head_size_, heads_[head].queries);
  }
}

}  // namespace pairscore
