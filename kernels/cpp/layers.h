// The weights of a linear layer in the layout that the kernels read, and rows of quantized activations.
#pragma once

#include <vector>

#include "buffer.h"
#include "kernels.h"

namespace pairscore {

// Whether groups of so many columns may be rotated by a Hadamard matrix of this order; 0: by none.
inline bool may_rotate(std::size_t order, std::size_t group_size) {
  return order == 0 || (order >= 2 && order <= 64 && (order & (order - 1)) == 0 && group_size % (order * kLanes) == 0);
}

// An int8 linear layer as the plan's tensors give it: weights [outputs][inputs], scales [outputs][inputs / group_size].
struct LinearSource {
  const std::int8_t* weights;
  const float* scales;
  const float* bias;
  std::size_t outputs;
  float factor = 1.0f;            // multiplies every result: the query's 1 / sqrt(head_size)
};

// The weights of a source in float, for rows that are neither smoothed nor rotated: [outputs][inputs].
std::vector<float> dequantized(const LinearSource& source, std::size_t inputs, std::size_t group_size,
                               std::size_t rotation, const float* smooth);

// Rows between two attentions at once, a multiple of every instruction set's tile. Fewer, and each panel of weights is
// fetched and widened for too few rows; more, and the inner columns of the feed-forward leave the second-level cache.
constexpr std::size_t kBlockRows = 96;

// Whether the products of these weights with 8-bit activations can be added in 16 bits: of each eight inputs, the products
// of 0, 1, 4 and 5 in one sum, and those of 2, 3, 6 and 7 in another. They can where the weights of one sign in a sum add
// up to at most 128: 255 * 128 = 32640. weights: rows of a multiple of 8, one after the other.
bool narrow_sums(const std::int8_t* weights, std::size_t count);

// Several sources side by side, packed for one instruction set: query, key and value are one product.
class PackedLinear {
 public:
  PackedLinear() = default;
  PackedLinear(const Kernels& kernels, std::size_t inputs, std::size_t group_size, std::size_t rotation,
               const float* smooth, const std::vector<LinearSource>& sources);
  LinearWeights view() const;
  const float* smooth() const { return smooth_.size() ? smooth_.data() : nullptr; }
  std::size_t inputs() const { return inputs_; }
  std::size_t outputs() const { return outputs_; }
  std::size_t group_size() const { return group_size_; }
  std::size_t rotation() const { return rotation_; }

 private:
  std::size_t inputs_ = 0, outputs_ = 0, padded_outputs_ = 0, group_size_ = 1, rotation_ = 0;
  Buffer<std::int8_t> weights_;
  Buffer<float> minus_sums_, scales_, bias_, smooth_;
};

// A float linear layer: weights transposed to [inputs][outputs], outputs padded to whole vectors.
class PackedDense {
 public:
  PackedDense() = default;
  PackedDense(const float* weights, const float* bias, std::size_t outputs, std::size_t inputs);
  void run(const Kernels& kernels, const float* rows, std::size_t stride, std::size_t count, Activation activation,
           float* out, std::size_t out_stride) const;  // out: [count][padded_outputs()]
  std::size_t inputs() const { return inputs_; }
  std::size_t outputs() const { return outputs_; }
  std::size_t padded_outputs() const { return round_up(outputs_, kLanes); }

 private:
  std::size_t inputs_ = 0, outputs_ = 0;
  Buffer<float> weights_, bias_;
};

// Room for quantized rows of one width.
class RowsBuffer {
 public:
  void reserve(const Kernels& kernels, std::size_t count, std::size_t inputs, std::size_t group_size);
  const QuantizedRows& view() const { return view_; }

 private:
  QuantizedRows view_{};
  Buffer<unsigned char> values_;
  Buffer<float> scales_, zero_points_, prepared_;
};

// The relative positions of every head, gathered for pairs of one length.
class GatheredPositions {
 public:
  void reserve(std::size_t heads, std::size_t head_size, std::size_t length);
  // The tables of the first head; the others' columns follow. rows: of the distances 1 - length to length - 1.
  void gather(const Kernels& kernels, const PositionTable& keys, const PositionTable& queries,
              const std::int32_t* rows);
  const RelativePositions& of(std::size_t head) const { return heads_[head]; }

 private:
  std::size_t head_size_ = 0, length_ = 0;
  std::vector<RelativePositions> heads_;
  Buffer<unsigned char> panels_;
  Buffer<std::int32_t> offsets_;
  Buffer<float> scales_;
};

}  // namespace pairscore
