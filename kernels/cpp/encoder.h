// The whole encoder: token ids in, logits out.
#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "buffer.h"
#include "kernels.h"
#include "layers.h"

namespace pairscore {

// Sizes, with the names that the plan gives them. padding_id: -1 where every token has a position of its own.
struct Shape {
  std::size_t hidden, heads, intermediate, labels, embedding_size, vocabulary, positions, position_offset, token_types,
      group_size, down_group_size;
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

struct Layer {
  PackedLinear query_key_value;   // of every layer but the last
  PackedLinear query, key_value;  // of the last, where only the first token of a pair asks
  PackedLinear output, up, down;
  Norm attention_norm, output_norm;
};

struct HeadLayer {
  PackedDense dense;
  Activation activation;
};

struct Weights {
  Shape shape;
  Embeddings embeddings;
  std::vector<Layer> layers;
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
