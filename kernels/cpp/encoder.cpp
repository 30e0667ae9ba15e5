// Sequence of the operations, in an order that keeps intermediate results in the caches:
//   attention runs pair by pair; all that lies between two attentions runs for one block of rows after another.
#include "encoder.h"

#include <algorithm>
#include <cfenv>
#include <stdexcept>
#include <string>

namespace pairscore {
namespace {

// A call with more tokens works in several passes (of at least a pair), so that its memory is bounded.
constexpr std::size_t kPassTokens = 1024;

// Round to nearest and denormals as IEEE 754 has them, whatever the calling thread has set: some libraries switch
// denormals off for a whole process.
class DefaultFloatingPoint {
 public:
  DefaultFloatingPoint() {
    std::fegetenv(&before_);
    std::fesetenv(FE_DFL_ENV);
  }
  ~DefaultFloatingPoint() { std::fesetenv(&before_); }
  DefaultFloatingPoint(const DefaultFloatingPoint&) = delete;
  DefaultFloatingPoint& operator=(const DefaultFloatingPoint&) = delete;

 private:
  std::fenv_t before_;
};

void check_ids(const std::int32_t* ids, std::size_t count, std::size_t rows, const char* name) {
  for (std::size_t i = 0; i < count; i++)
    if (ids[i] < 0 || static_cast<std::size_t>(ids[i]) >= rows)
      throw std::invalid_argument(std::string(name) + " holds " + std::to_string(ids[i]) + ", outside of 0 to " +
                                  std::to_string(rows - 1));
}

}  // namespace

// Memory of one running call.
struct Encoder::Workspace {
  Buffer<float> states;           // [tokens][hidden]: what a layer leaves to the next
  Buffer<float> projected;        // [tokens][3 * hidden]: queries (then their context), keys, values
  Buffer<float> embedded;         // [tokens][embedding_size], where that differs from hidden
  Buffer<float> positions;        // [length][embedding_size], of a pair that holds padding tokens
  Buffer<float> inner;            // [kBlockRows][intermediate, and as many for the gate where there is one]
  Buffer<float> normed;           // [kBlockRows][hidden], where norms precede the products
  Buffer<unsigned char> attention, panel;
  GatheredPositions relative;     // of the layer that runs, where there are any
  RowsBuffer narrow, wide;        // quantized rows of hidden and of intermediate columns
  Buffer<float> first_states;     // [pairs][hidden]: rows of the first tokens, or what else the head reads
  Buffer<float> first_queries;    // [pairs][hidden]
  Buffer<float> asking;           // [pairs][heads][hidden]: what the heads of a bert's last layer ask, then what they found
  Buffer<float> state_attention;
  Buffer<float> head[2];
};

// One pass over some pairs of a call.
class Encoder::Pass {
 public:
  Pass(const Encoder& encoder, Workspace& workspace, std::size_t pairs, std::size_t length)
      : kernels_(encoder.kernels_),
        weights_(encoder.weights_),
        shape_(encoder.weights_.shape),
        work_(workspace),
        pairs_(pairs),
        length_(length),
        tokens_(pairs * length),
        modern_(encoder.weights_.shape.architecture == Architecture::modernbert),
        relative_(encoder.weights_.shape.architecture == Architecture::deberta) {
    const std::size_t hidden = shape_.hidden, widest = std::max(hidden, shape_.intermediate);
    work_.states.reserve(tokens_ * hidden);
    work_.projected.reserve(tokens_ * 3 * hidden);
    if (shape_.embedding_size != hidden) work_.embedded.reserve(tokens_ * shape_.embedding_size);
    work_.inner.reserve(kBlockRows * inner_columns());
    if (modern_) work_.normed.reserve(kBlockRows * hidden);
    const std::size_t head_size = hidden / shape_.heads;
    work_.attention.reserve(attention_scratch(length, head_size) + (relative_ ? relative_scratch(length, head_size) : 0));
    if (relative_) work_.relative.reserve(shape_.heads, head_size, length);
    work_.panel.reserve(panel_scratch(kernels_, widest));
    work_.narrow.reserve(kernels_, kBlockRows, hidden, shape_.group_size ? shape_.group_size : hidden);
    work_.wide.reserve(kernels_, kBlockRows, shape_.intermediate,
                       shape_.down_group_size ? shape_.down_group_size : shape_.intermediate);
    work_.first_states.reserve(pairs * hidden);
    work_.first_queries.reserve(pairs * hidden);
    if (const std::size_t heads = encoder.weights_.layers.back().heads.size()) {
      work_.asking.reserve(pairs * heads * hidden);
      work_.state_attention.reserve(state_attention_scratch(heads, length, hidden));
    }
  }

  void run(const std::int32_t* ids, const std::int32_t* type_ids, float* logits) {
    const std::size_t hidden = shape_.hidden, layers = weights_.layers.size();
    const std::size_t whole = first_row_only() ? layers - 1 : layers;
    embed(ids, type_ids);
    for (std::size_t row = 0; row < tokens_; row += kBlockRows) project(0, row);
    for (std::size_t index = 0; index < whole; index++) {
      const Layer& layer = weights_.layers[index];
      attend(layer, work_.projected.data(), length_, 3 * hidden);
      for (std::size_t row = 0; row < tokens_; row += kBlockRows) {
        finish_layer(layer, work_.projected.data() + row * 3 * hidden, 3 * hidden,
                     std::min(kBlockRows, tokens_ - row), work_.states.data() + row * hidden);
        if (index + 1 < layers) project(index + 1, row);
      }
    }
    if (first_row_only())
      finish_first_rows(weights_.layers.back());
    else
      pool();
    classify(logits);
  }

 private:
  // Whether nothing but the first token's row of each pair leaves the last layer.
  bool first_row_only() const { return shape_.pooling == Pooling::first; }

  std::size_t inner_columns() const { return (modern_ ? 2 : 1) * shape_.intermediate; }

  void embed(const std::int32_t* ids, const std::int32_t* type_ids) {
    const Embeddings& embeddings = weights_.embeddings;
    const std::size_t size = shape_.embedding_size;
    float* rows = size == shape_.hidden ? work_.states.data() : work_.embedded.data();
    for (std::size_t pair = 0; pair < pairs_; pair++)
      kernels_.embed(ids + pair * length_, type_ids + pair * length_, length_, size, embeddings.words.data(),
                     shape_.token_types ? embeddings.types.data() : nullptr,
                     embeddings.positions.size() ? positions(ids + pair * length_) : nullptr, rows + pair * length_ * size);
    norm(embeddings.norm, rows, size, tokens_, rows);
    if (size != shape_.hidden)
      embeddings.projection.run(kernels_, rows, size, tokens_, Activation::none, work_.states.data(), shape_.hidden);
  }

  // [length][embedding_size]: the positions of one pair's tokens. Padding tokens within a text share one and are not
  // counted, as in RoBERTa.
  const float* positions(const std::int32_t* ids) {
    const float* table = weights_.embeddings.positions.data();
    const std::size_t size = shape_.embedding_size;
    if (shape_.padding_id < 0 || std::find(ids, ids + length_, shape_.padding_id) == ids + length_)
      return table + shape_.position_offset * size;
    work_.positions.reserve(length_ * size);
    const std::size_t padding = static_cast<std::size_t>(shape_.padding_id);
    std::size_t counted = 0;
    for (std::size_t token = 0; token < length_; token++) {
      std::size_t row = ids[token] == shape_.padding_id ? padding : padding + ++counted;
      std::copy(table + row * size, table + (row + 1) * size, work_.positions.data() + token * size);
    }
    return work_.positions.data();
  }

  void norm(const Norm& norm, const float* rows, std::size_t size, std::size_t count, float* out) const {
    const std::size_t counted = size == shape_.hidden ? shape_.columns : size;
    kernels_.layer_norm(rows, size, count, size, counted, norm.weight.data(), norm.bias.data(), shape_.epsilon, out,
                        size);
  }

  // What a product reads of at most kBlockRows states: themselves, or their norm where it comes first.
  const float* before_product(const Norm& first, const float* states, std::size_t count) {
    if (!modern_ || !first.weight.size()) return states;
    norm(first, states, shape_.hidden, count, work_.normed.data());
    return work_.normed.data();
  }

  void linear(const PackedLinear& layer, RowsBuffer& quantized, const float* rows, std::size_t stride,
              std::size_t count, Activation activation, const float* residual, float* out, std::size_t out_stride) {
    kernels_.quantize(rows, stride, count, layer.inputs(), layer.group_size(), layer.smooth(),
                      layer.rotation(), quantized.view());
    kernels_.linear(quantized.view(), count, layer.view(), activation, residual, layer.outputs(), out, out_stride,
                    work_.panel.data());
  }

  // Queries, keys and values of a block of rows; keys and values, or none of them in a bert, where only the first token
  // of a pair asks.
  void project(std::size_t index, std::size_t row) {
    const Layer& layer = weights_.layers[index];
    if (!layer.heads.empty()) return;
    const bool asked_later = first_row_only() && index + 1 == weights_.layers.size();
    const std::size_t hidden = shape_.hidden, count = std::min(kBlockRows, tokens_ - row);
    const float* states = before_product(layer.attention_norm, work_.states.data() + row * hidden, count);
    linear(asked_later ? layer.key_value : layer.query_key_value, work_.narrow, states, hidden, count,
           Activation::none, nullptr, work_.projected.data() + row * 3 * hidden + (asked_later ? hidden : 0),
           3 * hidden);
  }

  // Replaces the first `count` queries of each pair by their context.
  void attend(const Layer& layer, float* queries, std::size_t count, std::size_t stride) {
    const std::size_t hidden = shape_.hidden, size = hidden / shape_.heads;
    if (relative_) gather_positions(layer.relative);
    for (std::size_t pair = 0; pair < pairs_; pair++) {
      float* keys = work_.projected.data() + pair * length_ * 3 * hidden + hidden;
      if (modern_) turn(weights_.rotary[layer.rotary], keys, count);
      for (std::size_t head = 0; head < shape_.heads; head++) {
        float* asking = queries + pair * count * stride + head * size;
        kernels_.attention({count, length_, size, layer.window, relative_ ? &work_.relative.of(head) : nullptr}, asking, stride, keys + head * size,
                           keys + hidden + head * size, 3 * hidden, asking, stride, work_.attention.data());
      }
    }
  }

  // The same for the first query of each pair and the states of its tokens (multi-head latent attention absorbs weights of
  // keys and values likewise: arXiv 2405.04434).
  void attend_to_states(const Layer& layer, float* queries) {
    const std::size_t hidden = shape_.hidden, heads = layer.heads.size(), size = hidden / heads, stride = heads * hidden;
    float* asking = work_.asking.data();
    for (std::size_t head = 0; head < heads; head++)
      layer.heads[head].key.run(kernels_, queries + head * size, hidden, pairs_, Activation::none,
                                asking + head * hidden, stride);
    for (std::size_t pair = 0; pair < pairs_; pair++)
      kernels_.state_attention(asking + pair * stride, heads, work_.states.data() + pair * length_ * hidden, length_,
                               hidden, asking + pair * stride, work_.state_attention.data());
    for (std::size_t head = 0; head < heads; head++)
      layer.heads[head].value.run(kernels_, asking + head * hidden, stride, pairs_, Activation::none,
                                  queries + head * size, hidden);
  }

  void gather_positions(const PositionTables& tables) {
    const std::size_t hidden = shape_.hidden, heads = shape_.heads;
    work_.relative.gather(kernels_, {tables.keys.data(), hidden, tables.key_scales.data(), nullptr, heads},
                          {tables.queries.data(), hidden, tables.query_scales.data(), tables.bias.data(), heads},
                          weights_.relative_rows.data() + shape_.positions - length_);
  }

  // The keys of a pair, and the queries before them. Where the first token alone asks, it has no angle.
  void turn(const Rotary& rotary, float* keys, std::size_t queries) {
    const std::size_t hidden = shape_.hidden;
    const bool both = queries == length_;
    kernels_.rotate(both ? keys - hidden : keys, 3 * hidden, length_, (both ? 2 : 1) * shape_.heads,
                    hidden / shape_.heads, rotary.cosines.data(), rotary.sines.data());
  }

  // All that follows attention in a layer, for at most kBlockRows rows of context; updates their states.
  void finish_layer(const Layer& layer, const float* context, std::size_t stride, std::size_t count, float* states) {
    const std::size_t hidden = shape_.hidden, columns = inner_columns();
    float* inner = work_.inner.data();
    linear(layer.output, work_.narrow, context, stride, count, Activation::none, states, states, hidden);
    if (modern_) {
      linear(layer.up, work_.narrow, before_product(layer.output_norm, states, count), hidden, count,
             Activation::none, nullptr, inner, columns);
      const PackedLinear& down = layer.down;
      kernels_.quantize_gated(shape_.activation, inner, columns, count, down.inputs(), down.group_size(),
                              down.smooth(), down.rotation(), work_.wide.view());
      kernels_.linear(work_.wide.view(), count, down.view(), Activation::none, states, hidden, states, hidden,
                      work_.panel.data());
      return;
    }
    norm(layer.attention_norm, states, hidden, count, states);
    linear(layer.up, work_.narrow, states, hidden, count, shape_.activation, nullptr, inner, columns);
    linear(layer.down, work_.wide, inner, columns, count, Activation::none, states, states, hidden);
    norm(layer.output_norm, states, hidden, count, states);
  }

  // The last layer, of which only the first token's row of each pair is needed.
  void finish_first_rows(const Layer& layer) {
    const std::size_t hidden = shape_.hidden;
    for (std::size_t pair = 0; pair < pairs_; pair++) {
      const float* state = work_.states.data() + pair * length_ * hidden;
      std::copy(state, state + hidden, work_.first_states.data() + pair * hidden);
    }
    for (std::size_t pair = 0; pair < pairs_; pair += kBlockRows) {
      const std::size_t count = std::min(kBlockRows, pairs_ - pair);
      const float* states = before_product(layer.attention_norm, work_.first_states.data() + pair * hidden, count);
      linear(layer.query, work_.narrow, states, hidden, count, Activation::none, nullptr,
             work_.first_queries.data() + pair * hidden, hidden);
    }
    if (layer.heads.empty())
      attend(layer, work_.first_queries.data(), 1, hidden);
    else
      attend_to_states(layer, work_.first_queries.data());
    for (std::size_t pair = 0; pair < pairs_; pair += kBlockRows)
      finish_layer(layer, work_.first_queries.data() + pair * hidden, hidden, std::min(kBlockRows, pairs_ - pair),
                   work_.first_states.data() + pair * hidden);
    if (modern_) norm(weights_.final_norm, work_.first_states.data(), hidden, pairs_, work_.first_states.data());
  }

  // What the head reads of all rows of the last layer: their mean.
  void pool() {
    const std::size_t hidden = shape_.hidden;
    float* states = work_.states.data();
    if (modern_) norm(weights_.final_norm, states, hidden, tokens_, states);
    for (std::size_t pair = 0; pair < pairs_; pair++)
      kernels_.mean(states + pair * length_ * hidden, hidden, length_, hidden,
                    work_.first_states.data() + pair * hidden);
  }

  void classify(float* logits) {
    const float* rows = work_.first_states.data();
    std::size_t stride = shape_.hidden, buffer = 0;
    for (const HeadLayer& layer : weights_.head) {
      Buffer<float>& out = work_.head[buffer];
      out.reserve(pairs_ * layer.dense.padded_outputs());
      layer.dense.run(kernels_, rows, stride, pairs_, layer.activation, out.data(), layer.dense.padded_outputs());
      rows = out.data();
      stride = layer.dense.padded_outputs();
      if (layer.norm.weight.size())
        kernels_.layer_norm(rows, stride, pairs_, layer.dense.outputs(), layer.dense.outputs(),
                            layer.norm.weight.data(), layer.norm.bias.data(), layer.epsilon, out.data(), stride);
      buffer = 1 - buffer;
    }
    for (std::size_t pair = 0; pair < pairs_; pair++)
      std::copy(rows + pair * stride, rows + pair * stride + shape_.labels, logits + pair * shape_.labels);
  }

  const Kernels& kernels_;
  const Weights& weights_;
  const Shape& shape_;
  Workspace& work_;
  const std::size_t pairs_, length_, tokens_;
  const bool modern_, relative_;
};

Encoder::Encoder(const Kernels& kernels, Weights weights) : kernels_(kernels), weights_(std::move(weights)) {}
Encoder::~Encoder() = default;

void Encoder::run(const std::int32_t* ids, const std::int32_t* type_ids, std::size_t pairs, std::size_t length,
                  float* logits) {
  const Shape& shape = weights_.shape;
  check_ids(ids, pairs * length, shape.vocabulary, "input_ids");
  if (shape.token_types) check_ids(type_ids, pairs * length, shape.token_types, "token_type_ids");

  std::unique_ptr<Workspace> workspace;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!idle_.empty()) {
      workspace = std::move(idle_.back());
      idle_.pop_back();
    }
  }
  if (!workspace) workspace = std::make_unique<Workspace>();
  {
    DefaultFloatingPoint guard;
    const std::size_t most = std::max<std::size_t>(1, kPassTokens / length);
    for (std::size_t pair = 0; pair < pairs; pair += most)
      Pass(*this, *workspace, std::min(most, pairs - pair), length)
          .run(ids + pair * length, type_ids + pair * length, logits + pair * shape.labels);
  }
  std::lock_guard<std::mutex> lock(mutex_);
  idle_.push_back(std::move(workspace));
}

}  // namespace pairscore
