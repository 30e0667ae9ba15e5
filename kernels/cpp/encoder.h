// The whole encoder: token ids in, logits out.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "buffer.h"
#include "kernels.h"
#include "layers.h"

namespace pairscore {

// bert: norms follow the sums, a table of positions. modernbert: norms precede the products, positions turn queries and
// keys, the feed-forward is gated. deberta: bert, whose scores depend on the distance between two tokens too.
enum class Architecture { bert, modernbert, deberta };
enum class Pooling { first, mean };

// Sizes, with the names that the plan gives them. relative_positions: 0 but in deberta. padding_id: -1 where every token
// has a position of its own.
struct Shape {
  Architecture architecture;
  Pooling pooling;
  std::size_t hidden, columns, heads, intermediate, labels, embedding_size, vocabulary, positions, position_offset,
      token_types, group_size, down_group_size, rotation, down_rotation, relative_positions;
  std::int32_t padding_id;
  float epsilon;
  Activation activation;
};

struct Norm {
  Buffer<float> weight, bias;
};

struct Embeddings {
  Buffer<float> words, positions, types;
  Norm norm;
  PackedDense projection;         // used where embedding_size differs from hidden
};

// The angles of rotary positions: [positions][head_size / 2].
struct Rotary {
  Buffer<float> cosines, sines;
};

// A layer's keys and queries of relative positions: [positions][hidden], and [positions][heads].
struct PositionTables {
  Buffer<std::int8_t> keys, queries;
  Buffer<float> key_scales, query_scales, bias;
};

// A head of a bert's last layer, where only the first token of a pair asks: its query becomes a row that is compared with
// the tokens' states themselves, and their weighted sum becomes its context. No keys and values are computed.
struct AskingHead {
  PackedDense key, value;         // [head size] to [hidden], and back
};

struct Layer {
  PackedLinear query_key_value;   // of every layer whose rows are all needed
  PackedLinear query, key_value;  // of the last, where only the first token of a pair asks; a bert's has no key_value
  std::vector<AskingHead> heads;  // but these
  PackedLinear output, up, down;  // modernbert: `up` holds the gate's columns too, behind its own
  Norm attention_norm;            // modernbert: before the attention, and none in the first layer
  Norm output_norm;               // modernbert: before the feed-forward
  std::size_t window = 0;         // a token sees those at most window / 2 away; 0: all
  std::size_t rotary = 0;         // modernbert: which of the angles turn its queries and keys
  PositionTables relative;        // deberta
};

struct HeadLayer {
  PackedDense dense;
  Activation activation;
  Norm norm;                      // of what the activation gives, where there is one
  float epsilon;
};

struct Weights {
  Shape shape;
  Embeddings embeddings;
  std::vector<Rotary> rotary;
  Buffer<std::int32_t> relative_rows;  // deberta: the position of every distance from 1 - positions to positions - 1
  std::vector<Layer> layers;
  Norm final_norm;                // modernbert: of what the last layer gives
  std::vector<HeadLayer> head;
};

class Encoder {
 public:
  Encoder(const Kernels& kernels, Weights weights);
  ~Encoder();

  // Pairs of one length; logits: [pairs][labels]. Many threads may call at once: each works in memory of its own, which
  // the encoder keeps for later calls. std::invalid_argument where an id is outside of its table.
  void run(const std::int32_t* ids, const std::int32_t* type_ids, std::size_t pairs, std::size_t length,
           float* logits);
  const Kernels& kernels() const { return kernels_; }
  const Shape& shape() const { return weights_.shape; }

 private:
  struct Workspace;
  class Pass;

  const Kernels& kernels_;
  const Weights weights_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Workspace>> idle_;
};

}  // namespace pairscore
