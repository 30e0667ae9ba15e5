// From a plan and its tensors to an Encoder.
#include <nanobind/stl/pair.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cmath>

#include "arrays.h"
#include "cpu.h"
#include "encoder.h"

namespace pairscore {
namespace {

Buffer<float> floats(const nb::dict& tensors, const std::string& name, std::size_t size) {
  const float* data = tensor<float>(tensors, name, size);
  Buffer<float> copy(size);
  std::copy(data, data + size, copy.data());
  return copy;
}

Buffer<std::int8_t> bytes(const nb::dict& tensors, const std::string& name, std::size_t size) {
  const std::int8_t* data = tensor<std::int8_t>(tensors, name, size);
  Buffer<std::int8_t> copy(size);
  std::copy(data, data + size, copy.data());
  return copy;
}

Norm norm(const nb::dict& tensors, const std::string& name, std::size_t size) {
  return {floats(tensors, name + ".weight", size), floats(tensors, name + ".bias", size)};
}

PackedDense dense(const nb::dict& tensors, const std::string& name, std::size_t outputs, std::size_t inputs) {
  return PackedDense(tensor<float>(tensors, name + ".weight", outputs * inputs),
                     tensor<float>(tensors, name + ".bias", outputs), outputs, inputs);
}

// Whether all linear layers in int8 have them. Attention is not made of narrow sums, so its positions need not.
bool narrow_sums(const nb::dict& tensors) {
  for (const auto& [name, value] : tensors) {
    if (nb::cast<std::string>(name).find(".position_") != std::string::npos) continue;
    nb::ndarray<const std::int8_t, nb::c_contig, nb::device::cpu> weights;
    if (nb::try_cast(value, weights, false) && !pairscore::narrow_sums(weights.data(), weights.size())) return false;
  }
  return true;
}

class LayerReader {
 public:
  LayerReader(const Kernels& kernels, const nb::dict& tensors, const Shape& shape, std::size_t index)
      : kernels_(kernels),
        tensors_(tensors),
        shape_(shape),
        index_(index),
        prefix_("layers." + std::to_string(index) + ".") {}

  // first_row_only: of the layer's queries, only the first token's is needed.
  Layer read(bool first_row_only) const {
    const bool modern = shape_.architecture == Architecture::modernbert;
    const std::size_t hidden = shape_.hidden, intermediate = shape_.intermediate;
    LinearSource query = source("query", hidden, hidden);
    LinearSource key = source("key", hidden, hidden), value = source("value", hidden, hidden);
    query.factor = 1.0f / std::sqrt(static_cast<float>(hidden / shape_.heads));
    Layer layer;
    if (first_row_only) {
      layer.query = packed("query", hidden, {query});
      if (shape_.architecture == Architecture::bert)
        layer.heads = heads(key, value);
      else
        layer.key_value = packed("query", hidden, {key, value});
    } else {
      layer.query_key_value = packed("query", hidden, {query, key, value});
    }
    layer.output = packed("output", hidden, {source("output", hidden, hidden)});
    std::vector<LinearSource> up{source("up", intermediate, hidden)};
    if (modern) up.push_back(source("gate", intermediate, hidden));
    layer.up = packed("up", hidden, up);
    layer.down = packed("down", intermediate, {source("down", hidden, intermediate)});
    if (!modern || index_) layer.attention_norm = norm(tensors_, prefix_ + "attention_norm", hidden);
    layer.output_norm = norm(tensors_, prefix_ + "output_norm", hidden);
    if (shape_.architecture == Architecture::deberta) {
      const std::size_t positions = shape_.relative_positions, scales = positions * shape_.heads;
      layer.relative = {bytes(tensors_, prefix_ + "position_key.weight", positions * hidden),
                        bytes(tensors_, prefix_ + "position_query.weight", positions * hidden),
                        floats(tensors_, prefix_ + "position_key.scale", scales),
                        floats(tensors_, prefix_ + "position_query.scale", scales),
                        floats(tensors_, prefix_ + "position_bias", scales)};
    }
    return layer;
  }

 private:
  std::size_t group_size(const std::string& name, std::size_t inputs) const {
    const std::size_t size = name == "down" ? shape_.down_group_size : shape_.group_size;
    return size ? size : inputs;
  }

  LinearSource source(const std::string& name, std::size_t outputs, std::size_t inputs) const {
    return {tensor<std::int8_t>(tensors_, prefix_ + name + ".weight", outputs * inputs),
            tensor<float>(tensors_, prefix_ + name + ".scale", outputs * (inputs / group_size(name, inputs))),
            tensor<float>(tensors_, prefix_ + name + ".bias", outputs), outputs};
  }

  // `name` is the layer whose smoothing vector the input has.
  PackedLinear packed(const std::string& name, std::size_t inputs, const std::vector<LinearSource>& sources) const {
    return PackedLinear(kernels_, inputs, group_size(name, inputs),
                        name == "down" ? shape_.down_rotation : shape_.rotation, smoothing(name, inputs), sources);
  }

  const float* smoothing(const std::string& name, std::size_t inputs) const {
    const std::string smooth = prefix_ + name + ".smooth";
    return tensors_.contains(smooth.c_str()) ? tensor<float>(tensors_, smooth, inputs) : nullptr;
  }

  // The keys' bias moves all scores of a query alike, which softmax does not see.
  std::vector<AskingHead> heads(const LinearSource& key, const LinearSource& value) const {
    const std::size_t hidden = shape_.hidden, size = hidden / shape_.heads;
    const auto weights = [&](const LinearSource& source) {
      return dequantized(source, hidden, group_size("query", hidden), shape_.rotation, smoothing("query", hidden));
    };
    const std::vector<float> keys = weights(key), values = weights(value), none(hidden);
    std::vector<float> turned(hidden * size);
    std::vector<AskingHead> made;
    for (std::size_t head = 0; head < shape_.heads; head++) {
      for (std::size_t i = 0; i < hidden; i++)
        for (std::size_t d = 0; d < size; d++) turned[i * size + d] = keys[(head * size + d) * hidden + i];
      made.push_back({PackedDense(turned.data(), none.data(), hidden, size),
                      PackedDense(values.data() + head * size * hidden, value.bias + head * size, size, hidden)});
    }
    return made;
  }

  const Kernels& kernels_;
  const nb::dict& tensors_;
  const Shape& shape_;
  const std::size_t index_;
  const std::string prefix_;
};

// Windows of the layers, and which of the rotary tables each has; both empty for bert.
using LayersPlan = std::pair<std::vector<std::size_t>, std::vector<std::size_t>>;
using HeadPlan = std::vector<std::tuple<std::string, std::string, float>>;  // name, activation, epsilon of a norm or -1

Weights read_weights(const Kernels& kernels, const nb::dict& tensors, const Shape& shape, std::size_t layers,
                     const LayersPlan& layers_plan, const HeadPlan& head,
                     const std::vector<std::size_t>& head_outputs) {
  Weights weights;
  weights.shape = shape;
  const bool modern = shape.architecture == Architecture::modernbert;
  const auto& [windows, rotary] = layers_plan;
  const std::size_t size = shape.embedding_size, angles = shape.positions * (shape.hidden / shape.heads / 2);
  Embeddings& embeddings = weights.embeddings;
  embeddings.words = floats(tensors, "embeddings.words", shape.vocabulary * size);
  const bool relative = shape.architecture == Architecture::deberta;
  if (!modern && (!relative || tensors.contains("embeddings.positions")))
    embeddings.positions = floats(tensors, "embeddings.positions", (shape.positions + shape.position_offset) * size);
  if (relative) {
    const std::size_t distances = 2 * shape.positions - 1;
    const std::int32_t* rows = tensor<std::int32_t>(tensors, "relative.rows", distances);
    require(std::all_of(rows, rows + distances,
                        [&](std::int32_t row) {
                          return 0 <= row && static_cast<std::size_t>(row) < shape.relative_positions;
                        }),
            "a distance that has no position");
    weights.relative_rows = Buffer<std::int32_t>(distances);
    std::copy(rows, rows + distances, weights.relative_rows.data());
  }
  if (shape.token_types) embeddings.types = floats(tensors, "embeddings.types", shape.token_types * size);
  embeddings.norm = norm(tensors, "embeddings.norm", size);
  if (size != shape.hidden) embeddings.projection = dense(tensors, "embeddings.projection", shape.hidden, size);
  for (std::size_t index = 0; index < layers; index++) {
    const bool first_row_only = shape.pooling == Pooling::first && index + 1 == layers;
    weights.layers.push_back(LayerReader(kernels, tensors, shape, index).read(first_row_only));
    if (!modern) continue;
    Layer& layer = weights.layers.back();
    layer.window = windows[index];
    layer.rotary = rotary[index];
    while (weights.rotary.size() <= layer.rotary) {
      const std::string name = "rotary." + std::to_string(weights.rotary.size());
      weights.rotary.push_back({floats(tensors, name + ".cosines", angles), floats(tensors, name + ".sines", angles)});
    }
  }
  if (modern) weights.final_norm = norm(tensors, "final_norm", shape.hidden);
  std::size_t inputs = shape.hidden;
  for (std::size_t i = 0; i < head.size(); i++) {
    const auto& [name, activation, epsilon] = head[i];
    require(epsilon < 0 || head_outputs[i] % kLanes == 0, "a norm in the head that the kernels do not run");
    weights.head.push_back({dense(tensors, name, head_outputs[i], inputs), parse_activation(activation),
                            epsilon < 0 ? Norm{} : norm(tensors, name + ".norm", head_outputs[i]), epsilon});
    inputs = head_outputs[i];
  }
  require(inputs == shape.labels, "the head ends in another number of labels");
  return weights;
}

std::unique_ptr<Encoder> new_encoder(
    const std::string& isa, const nb::dict& tensors, bool modern, bool mean_pooling, std::size_t hidden, std::size_t columns,
    std::size_t heads, std::size_t intermediate, std::size_t layers, std::size_t labels, std::size_t embedding_size,
    std::size_t vocabulary, std::size_t positions, std::size_t position_offset, std::size_t token_types, float epsilon,
    const std::string& activation, std::size_t group_size, std::size_t down_group_size,
    const std::pair<std::size_t, std::size_t>& rotations, std::int32_t padding_id,
    std::size_t relative_positions, const LayersPlan& layers_plan, const HeadPlan& head, const std::vector<std::size_t>& head_outputs) {
  require(layers > 0 && heads > 0 && hidden % (heads * kLanes) == 0 && intermediate % kLanes == 0 &&
              embedding_size % kLanes == 0 && 0 < columns && columns <= hidden && head.size() == head_outputs.size(),
          "sizes that the kernels do not run");
  require(group_size % kLanes == 0 && (group_size == 0 || hidden % group_size == 0) && down_group_size % kLanes == 0 &&
              (down_group_size == 0 || intermediate % down_group_size == 0),
          "a group size that the kernels do not run");
  require(may_rotate(rotations.first, group_size ? group_size : hidden) &&
              may_rotate(rotations.second, down_group_size ? down_group_size : intermediate),
          "a rotation that the kernels do not run");
  require(padding_id < 0 || position_offset == static_cast<std::size_t>(padding_id) + 1,
          "a padding id that does not stand before the first position");
  require(!modern || (hidden % (heads * 2 * kLanes) == 0 && embedding_size == hidden && token_types == 0 &&
                      layers_plan.first.size() == layers && layers_plan.second.size() == layers &&
                      std::all_of(layers_plan.second.begin(), layers_plan.second.end(),
                                  [&](std::size_t table) { return table < layers; })),
          "layers that the kernels do not run");
  const bool relative = relative_positions > 0;
  require(!relative || (!modern && embedding_size == hidden && position_offset == 0 && padding_id < 0),
          "relative positions that the kernels do not run");
  const Kernels& kernels = for_weights(find_kernels(isa), narrow_sums(tensors));
  const Shape shape{modern     ? Architecture::modernbert
                    : relative ? Architecture::deberta
                               : Architecture::bert,
                    mean_pooling ? Pooling::mean : Pooling::first,
                    hidden,
                    columns,
                    heads,
                    intermediate,
                    labels,
                    embedding_size,
                    vocabulary,
                    positions,
                    position_offset,
                    token_types,
                    group_size,
                    down_group_size,
                    rotations.first,
                    rotations.second,
                    relative_positions,
                    padding_id,
                    epsilon,
                    parse_activation(activation)};
  return std::make_unique<Encoder>(kernels,
                                   read_weights(kernels, tensors, shape, layers, layers_plan, head, head_outputs));
}

void run(Encoder& encoder, const Ids& input_ids, const Ids& type_ids, const OutMatrix& logits) {
  const std::size_t pairs = input_ids.shape(0), length = input_ids.shape(1);
  require(type_ids.shape(0) == pairs && type_ids.shape(1) == length, "token_type_ids has another shape");
  require(logits.shape(0) == pairs && logits.shape(1) == encoder.shape().labels, "logits has another shape");
  require(length > 0 && length <= encoder.shape().positions, "pairs that are empty or too long");
  nb::gil_scoped_release release;
  encoder.run(input_ids.data(), type_ids.data(), pairs, length, logits.data());
}

}  // namespace

void bind_encoder(nb::module_& module) {
  nb::class_<Encoder>(module, "Encoder")
      .def_prop_ro("isa", [](const Encoder& encoder) { return std::string(encoder.kernels().name); })
      .def("run", &run, nb::arg("input_ids").noconvert(), nb::arg("token_type_ids").noconvert(),
           nb::arg("logits").noconvert());
  module.def("new_encoder", &new_encoder, nb::arg("isa"), nb::arg("tensors"), nb::kw_only(), nb::arg("modern"),
             nb::arg("mean_pooling"), nb::arg("hidden"), nb::arg("columns"), nb::arg("heads"), nb::arg("intermediate"), nb::arg("layers"),
             nb::arg("labels"), nb::arg("embedding_size"), nb::arg("vocabulary"), nb::arg("positions"),
             nb::arg("position_offset"), nb::arg("token_types"), nb::arg("epsilon"), nb::arg("activation"),
             nb::arg("group_size"), nb::arg("down_group_size"), nb::arg("rotations"), nb::arg("padding_id"), nb::arg("relative_positions"),
             nb::arg("layers_plan"), nb::arg("head"), nb::arg("head_outputs"));
}

}  // namespace pairscore
