// What every instruction set offers to the encoder: one table of functions on plain arrays.
//
// Each isa_*.cpp compiles the same operations (operations.h) with its own flags and exports such a table; the
// encoder calls through it and is itself compiled without any special flag. All matrices are row-major floats
// whose columns are a multiple of 16 (kLanes); `stride` always counts elements from one row to the next.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pairscore {

constexpr std::size_t kLanes = 16;      // floats in one vector of vector_*.h
constexpr std::size_t kAlignment = 64;  // bytes; one cache line, one AVX-512 register

enum class Activation { none, relu, gelu, gelu_tanh, tanh };

// The weights of one int8 linear layer, packed for one instruction set by layers.cpp.
struct LinearWeights {
  std::size_t inputs;             // columns of the activations, a multiple of group_size
  std::size_t outputs;            // columns of the result, a multiple of kLanes
  std::size_t padded_outputs;     // outputs, rounded up to whole panels
  std::size_t group_size;         // inputs that share a scale; `inputs` itself where rows are whole
  const std::int8_t* weights;     // [padded_outputs / panel][inputs / word][panel][word]
  const float* minus_sums;        // [inputs / group_size][padded_outputs], of the weights in a group and column
  const float* scales;            // [inputs / group_size][padded_outputs]
  const float* bias;              // [padded_outputs]
};

// Rows of 8-bit activations: x is close to scale * (value - zero point), with one scale and zero point a group.
// The table says how many bytes a value takes.
struct QuantizedRows {
  unsigned char* values;
  std::size_t row_bytes;          // from one row to the next
  float* scales;                  // [rows][groups]
  float* zero_points;             // [rows][groups], whole numbers
  float* prepared;                // kGroupsAtOnce groups of floats, for `quantize` to work in
};

constexpr std::size_t kGroupsAtOnce = 4;
constexpr std::size_t kMostTileRows = 32;  // rows of the largest tile of any instruction set

// 8-bit keys or queries of relative positions for one head, as the plan's tensors give them: scale * values.
struct PositionTable {
  const std::int8_t* values;      // the head's columns of the first position
  std::size_t stride;             // from one position's values to the next
  const float* scales;            // of the first position
  const float* bias;              // the same, added to a position's products; null: nothing
  std::size_t heads;              // from one position's scale and bias to the next
};

// Such a table gathered for the pairs of a batch: a column for every distance between two tokens.
struct PositionColumns {
  unsigned char* panels;          // [columns / panel][head_size / word][panel][word]
  std::int32_t* offsets;          // [columns], taken off each product: what unsigned values on its left add
  float* scales;                  // [columns], and so the bias
  float* bias;
};

// Of one head. The keys' column c is the distance c - (length - 1) from a query to a key, the queries' that from a key to a
// query.
struct RelativePositions {
  PositionColumns keys, queries;
};

struct AttentionShape {
  std::size_t queries;            // rows that ask: the first tokens of the pair, or all
  std::size_t length;             // rows that answer: tokens of the pair
  std::size_t head_size;          // columns of one head, a multiple of kLanes
  std::size_t window;             // token i sees those at most window / 2 away; 0: it sees all
  const RelativePositions* relative = nullptr;  // added to the scores; null: nothing. They have no window
};

struct Kernels {
  const char* name;
  std::size_t panel_columns;      // columns that the int8 product computes at once
  std::size_t word;               // activations that it takes at once, as layers.cpp packs their weights
  std::size_t activation_bytes;   // bytes of one quantized activation in memory

  // Quantizes rows * smooth (null: rows), each group of each row by its own range. rotation: 0, or the order n of a
  // Hadamard matrix, a power of two from 2 to 64, of which 16 n divides group_size: it turns what is rounded over b, where
  // a column is block * 16 n + b * 16 + lane.
  void (*quantize)(const float* rows, std::size_t stride, std::size_t count, std::size_t inputs,
                   std::size_t group_size, const float* smooth, std::size_t rotation, const QuantizedRows& quantized);
  // The same for a gated feed-forward: of rows with 2 * inputs columns, activation(first half) * second half * smooth.
  // Those products replace the first half.
  void (*quantize_gated)(Activation activation, float* rows, std::size_t stride, std::size_t count, std::size_t inputs,
                         std::size_t group_size, const float* smooth, std::size_t rotation,
                         const QuantizedRows& quantized);
  // out = activation(rows * weights + bias) + residual (null: nothing). `scratch` holds panel_scratch() bytes. Values are read
  // up to a multiple of kMostTileRows rows.
  void (*linear)(const QuantizedRows& rows, std::size_t count, const LinearWeights& weights, Activation activation,
                 const float* residual, std::size_t residual_stride, float* out, std::size_t out_stride,
                 unsigned char* scratch);
  // out = activation(rows * weights + bias) in float; weights are [inputs][outputs], outputs a multiple of kLanes.
  void (*dense)(const float* rows, std::size_t stride, std::size_t count, std::size_t inputs, const float* weights,
                const float* bias, std::size_t outputs, Activation activation, float* out, std::size_t out_stride);
  // out may be rows itself. Of `size` columns the first `counted` make mean and variance; the others hold zeros, and have
  // zeros for weight and bias.
  void (*layer_norm)(const float* rows, std::size_t stride, std::size_t count, std::size_t size, std::size_t counted,
                     const float* weight, const float* bias, float epsilon, float* out, std::size_t out_stride);
  // Rotary positions, in place: in each of `heads` heads of row i, column d of the first half and column d of the second
  // turn by the angle of position i, whose cosine and sine are [rows][head_size / 2]. head_size is a multiple of 32.
  void (*rotate)(float* rows, std::size_t stride, std::size_t count, std::size_t heads, std::size_t head_size,
                 const float* cosines, const float* sines);
  // out = the mean of the rows.
  void (*mean)(const float* rows, std::size_t stride, std::size_t count, std::size_t size, float* out);
  // out = softmax(queries * keys') * values for one pair and head, where queries * keys' is a product of 8-bit values;
  // out may be the queries themselves. `scratch` holds attention_scratch() bytes.
  void (*attention)(const AttentionShape& shape, const float* queries, std::size_t query_stride, const float* keys,
                    const float* values, std::size_t stride, float* out, std::size_t out_stride,
                    unsigned char* scratch);
  // out[h] = softmax(asking[h] * states') * states in float, for `heads` rows of `size` columns and one pair of `length`
  // tokens; out may be `asking` itself. `scratch` holds state_attention_scratch() floats.
  void (*state_attention)(const float* asking, std::size_t heads, const float* states, std::size_t length,
                          std::size_t size, float* out, float* scratch);
  // columns = the positions rows[0], rows[step], ... of a table, one for each of the 2 * length - 1 distances; whole panels.
  void (*gather_positions)(const PositionTable& table, const std::int32_t* rows, std::ptrdiff_t step, std::size_t length,
                           std::size_t head_size, const PositionColumns& columns);
  // out = (word + type) + position for one pair; types or positions are left out where they are null.
  void (*embed)(const std::int32_t* ids, const std::int32_t* type_ids, std::size_t length, std::size_t size,
                const float* words, const float* types, const float* positions, float* out);
  void (*activate)(Activation activation, const float* values, std::size_t count, float* out);
  void (*exponential)(const float* values, std::size_t count, float* out);
};

static constexpr std::size_t round_up(std::size_t value, std::size_t step) { return (value + step - 1) / step * step; }

// Bytes from one row of quantized activations to the next. Rows whose distance is a multiple of 4 KiB would all
// compete for the same few lines of the first-level cache, so each row is followed by one unused line.
static inline std::size_t quantized_row_bytes(const Kernels& kernels, std::size_t inputs) {
  return round_up(inputs * kernels.activation_bytes, kAlignment) + kAlignment;
}

// Memory that `linear` needs for one panel of weights, widened to 16 bits where the instruction set asks for it.
static inline std::size_t panel_scratch(const Kernels& kernels, std::size_t inputs) {
  return inputs * kernels.panel_columns * 2;
}

// Memory that `attention` needs: the mean of the keys; keys of at most two bytes a value, a sum and a scale each;
// values; and, for a tile of query rows, their quantized values, scores and weights. Each starts at a cache line.
constexpr std::size_t kMostFloatRows = 12;
constexpr std::size_t kMostPanelColumns = 32;
static inline std::size_t attention_scratch(std::size_t length, std::size_t head_size) {
  std::size_t keys = round_up(length, kMostPanelColumns);
  return head_size * 4 + keys * (head_size * 2 + 8) + length * head_size * 4 + (kMostFloatRows + 1) * head_size * 2 +
         kMostFloatRows * keys * 6 + head_size * 8 + 11 * kAlignment;
}

// Floats that `state_attention` needs: what the heads ask, their scores and weights, and a factor each.
static inline std::size_t state_attention_scratch(std::size_t heads, std::size_t length, std::size_t size) {
  return round_up(heads, kLanes) * (size + 2 * length + 1);
}

// Columns of relative positions for pairs of so many tokens.
static inline std::size_t position_columns(std::size_t length) { return round_up(2 * length - 1, kMostPanelColumns); }

// What `attention` needs beside that for relative positions (relative.h): keys of two bytes a value and their scales; the
// mean's products; the products of a tile of keys, and of a block and of a tile of queries.
constexpr std::size_t kRelativeQueries = 96, kRelativeKeys = 12;
static inline std::size_t relative_scratch(std::size_t length, std::size_t head_size) {
  std::size_t keys = round_up(length, kMostPanelColumns), more = 2 * kMostPanelColumns + kMostFloatRows;
  return keys * head_size * 2 + keys * 4 + position_columns(length) * 4 + head_size * 6 +
         (kRelativeKeys * (kRelativeQueries + kRelativeKeys + more) + kLanes) * 4 + kRelativeQueries * keys * 4 +
         kMostFloatRows * (keys + more) * 4 + 9 * kAlignment;
}

// One table for each instruction set; those that the compiler cannot build are not defined (cpu.cpp).
const Kernels* amx_kernels();
const Kernels* avx512vnni_kernels();
const Kernels* avxvnni_kernels();
const Kernels* avx512bw_kernels();
const Kernels* avx512bw_narrow_kernels();  // for layers with narrow_sums() (layers.h)
const Kernels* avx2_kernels();
const Kernels* avx2_narrow_kernels();  // the same
const Kernels* i8mm_kernels();
const Kernels* usdot_kernels();  // i8mm, but for linear layers
const Kernels* dotprod_kernels();
const Kernels* portable_kernels();

}  // namespace pairscore
