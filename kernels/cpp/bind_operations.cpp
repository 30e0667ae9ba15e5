// Each operation alone, for the tests. Results go to arrays that the caller allocated (operations.py).
#include <algorithm>

#include "arrays.h"
#include "buffer.h"
#include "cpu.h"
#include "layers.h"

namespace pairscore {
namespace {

// The bytes of `rows`, the low byte of each value first, or alone.
void copy_rows(const Kernels& kernels, const QuantizedRows& rows, std::size_t groups,
               const Array<std::uint8_t, 2>& values, const OutMatrix& scales,
               const Array<std::int32_t, 2>& zero_points) {
  const std::size_t count = values.shape(0), inputs = values.shape(1);
  for (std::size_t i = 0; i < count; i++)
    for (std::size_t j = 0; j < inputs; j++)
      values.data()[i * inputs + j] = rows.values[i * rows.row_bytes + j * kernels.activation_bytes];
  std::copy(rows.scales, rows.scales + count * groups, scales.data());
  std::transform(rows.zero_points, rows.zero_points + count * groups, zero_points.data(),
                 [](float zero) { return static_cast<std::int32_t>(zero); });
}

void quantize(const std::string& isa, const Matrix& x, const std::optional<Vector>& smooth, std::size_t group_size, std::size_t rotation,
              const Array<std::uint8_t, 2>& values, const OutMatrix& scales,
              const Array<std::int32_t, 2>& zero_points) {
  const Kernels& kernels = find_kernels(isa);
  const std::size_t count = x.shape(0), inputs = x.shape(1);
  require(may_rotate(rotation, group_size), "a rotation that the kernels do not run");
  RowsBuffer rows;
  rows.reserve(kernels, count, inputs, group_size);
  kernels.quantize(x.data(), inputs, count, inputs, group_size, smooth ? smooth->data() : nullptr, rotation,
                   rows.view());
  copy_rows(kernels, rows.view(), inputs / group_size, values, scales, zero_points);
}

void quantize_gated(const std::string& isa, const std::string& activation, const Matrix& x,
                    const std::optional<Vector>& smooth, std::size_t group_size, std::size_t rotation, const Array<std::uint8_t, 2>& values,
                    const OutMatrix& scales, const Array<std::int32_t, 2>& zero_points) {
  const Kernels& kernels = find_kernels(isa);
  const std::size_t count = x.shape(0), inputs = x.shape(1) / 2;
  Buffer<float> copy(count * 2 * inputs);
  std::copy_n(x.data(), copy.size(), copy.data());
  require(may_rotate(rotation, group_size), "a rotation that the kernels do not run");
  RowsBuffer rows;
  rows.reserve(kernels, count, inputs, group_size);
  kernels.quantize_gated(parse_activation(activation), copy.data(), 2 * inputs, count, inputs, group_size,
                         smooth ? smooth->data() : nullptr, rotation, rows.view());
  copy_rows(kernels, rows.view(), inputs / group_size, values, scales, zero_points);
}

void linear(const std::string& isa, const Matrix& x, const Array<const std::int8_t, 2>& weight, const Matrix& scale,
            const Vector& bias, const std::optional<Vector>& smooth, std::size_t group_size, std::size_t rotation,
            const std::string& activation, const std::optional<Matrix>& residual, const OutMatrix& out) {
  const Kernels& kernels = for_weights(find_kernels(isa), narrow_sums(weight.data(), weight.size()));
  const std::size_t count = x.shape(0), inputs = x.shape(1), outputs = weight.shape(0);
  require(may_rotate(rotation, group_size), "a rotation that the kernels do not run");
  PackedLinear layer(kernels, inputs, group_size, rotation, smooth ? smooth->data() : nullptr,
                     {{weight.data(), scale.data(), bias.data(), outputs}});
  RowsBuffer rows;
  rows.reserve(kernels, std::min(count, kBlockRows), inputs, group_size);
  Buffer<unsigned char> panel(panel_scratch(kernels, inputs));
  for (std::size_t row = 0; row < count; row += kBlockRows) {
    const std::size_t block = std::min(kBlockRows, count - row);
    kernels.quantize(x.data() + row * inputs, inputs, block, inputs, group_size, layer.smooth(), rotation,
                     rows.view());
    kernels.linear(rows.view(), block, layer.view(), parse_activation(activation),
                   residual ? residual->data() + row * outputs : nullptr, outputs, out.data() + row * outputs, outputs,
                   panel.data());
  }
}

void dense(const std::string& isa, const Matrix& x, const Matrix& weight, const Vector& bias,
           const std::string& activation, const OutMatrix& out) {
  PackedDense layer(weight.data(), bias.data(), weight.shape(0), weight.shape(1));
  Buffer<float> padded(x.shape(0) * layer.padded_outputs());
  layer.run(find_kernels(isa), x.data(), x.shape(1), x.shape(0), parse_activation(activation), padded.data(),
            layer.padded_outputs());
  for (std::size_t i = 0; i < x.shape(0); i++)
    std::copy_n(padded.data() + i * layer.padded_outputs(), layer.outputs(), out.data() + i * layer.outputs());
}

void layer_norm(const std::string& isa, const Matrix& x, const Vector& weight, const Vector& bias, float epsilon,
                const OutMatrix& out) {
  const std::size_t size = x.shape(1);
  find_kernels(isa).layer_norm(x.data(), size, x.shape(0), size, size, weight.data(), bias.data(), epsilon,
                               out.data(), size);
}

void rotate(const std::string& isa, const Matrix& cosines, const Matrix& sines, std::size_t heads,
            const OutMatrix& out) {
  const std::size_t columns = out.shape(1);
  find_kernels(isa).rotate(out.data(), columns, out.shape(0), heads, columns / heads, cosines.data(), sines.data());
}

void mean(const std::string& isa, const Matrix& x, const Array<float, 1>& out) {
  const std::size_t size = x.shape(1);
  find_kernels(isa).mean(x.data(), size, x.shape(0), size, out.data());
}

void attention(const std::string& isa, const Matrix& queries, const Matrix& keys, const Matrix& values,
               std::size_t window, const OutMatrix& out) {
  const AttentionShape shape{queries.shape(0), keys.shape(0), keys.shape(1), window};
  Buffer<unsigned char> scratch(attention_scratch(shape.length, shape.head_size));
  find_kernels(isa).attention(shape, queries.data(), shape.head_size, keys.data(), values.data(), shape.head_size,
                              out.data(), shape.head_size, scratch.data());
}

void state_attention(const std::string& isa, const Matrix& asking, const Matrix& states, const OutMatrix& out) {
  const std::size_t heads = asking.shape(0), length = states.shape(0), size = states.shape(1);
  Buffer<float> scratch(state_attention_scratch(heads, length, size));
  find_kernels(isa).state_attention(asking.data(), heads, states.data(), length, size, out.data(), scratch.data());
}

void relative_attention(const std::string& isa, const Matrix& queries, const Matrix& keys, const Matrix& values,
                        const Array<const std::int8_t, 2>& position_keys,
                        const Array<const std::int8_t, 2>& position_queries, const Vector& key_scales,
                        const Vector& query_scales, const Vector& bias, const Array<const std::int32_t, 1>& rows,
                        const OutMatrix& out) {
  const Kernels& kernels = find_kernels(isa);
  const std::size_t length = keys.shape(0), size = keys.shape(1);
  GatheredPositions gathered;
  gathered.reserve(1, size, length);
  gathered.gather(kernels, {position_keys.data(), size, key_scales.data(), nullptr, 1},
                  {position_queries.data(), size, query_scales.data(), bias.data(), 1}, rows.data());
  Buffer<unsigned char> scratch(attention_scratch(length, size) + relative_scratch(length, size));
  kernels.attention({queries.shape(0), length, size, 0, &gathered.of(0)}, queries.data(), size, keys.data(),
                    values.data(), size, out.data(), size, scratch.data());
}

void embed(const std::string& isa, const Array<const std::int32_t, 1>& ids,
           const Array<const std::int32_t, 1>& type_ids, const Matrix& words, const std::optional<Matrix>& types,
           const std::optional<Matrix>& positions, const OutMatrix& out) {
  find_kernels(isa).embed(ids.data(), type_ids.data(), ids.shape(0), words.shape(1), words.data(),
                          types ? types->data() : nullptr, positions ? positions->data() : nullptr,
                          out.data());
}

template <class Function>
void apply(const Vector& values, const Array<float, 1>& out, Function function) {
  const std::size_t count = values.shape(0);
  Buffer<float> padded(round_up(count, kLanes));
  std::copy_n(values.data(), count, padded.data());
  function(padded.data(), padded.size());
  std::copy_n(padded.data(), count, out.data());
}

}  // namespace

void bind_operations(nb::module_& module) {
  module.def("quantize", &quantize, nb::arg("isa"), nb::arg("x"), nb::arg("smooth").none(), nb::arg("group_size"), nb::arg("rotation"),
             nb::arg("values"), nb::arg("scales"), nb::arg("zero_points"));
  module.def("linear", &linear, nb::arg("isa"), nb::arg("x"), nb::arg("weight"), nb::arg("scale"), nb::arg("bias"),
             nb::arg("smooth").none(), nb::arg("group_size"), nb::arg("rotation"), nb::arg("activation"), nb::arg("residual").none(),
             nb::arg("out"));
  module.def("quantize_gated", &quantize_gated, nb::arg("isa"), nb::arg("activation"), nb::arg("x"),
             nb::arg("smooth").none(), nb::arg("group_size"), nb::arg("rotation"), nb::arg("values"), nb::arg("scales"),
             nb::arg("zero_points"));
  module.def("rotate", &rotate);
  module.def("mean", &mean);
  module.def("dense", &dense);
  module.def("layer_norm", &layer_norm);
  module.def("attention", &attention);
  module.def("state_attention", &state_attention);
  module.def("relative_attention", &relative_attention);
  module.def("embed", &embed, nb::arg("isa"), nb::arg("ids"), nb::arg("type_ids"), nb::arg("words"),
             nb::arg("types").none(), nb::arg("positions").none(), nb::arg("out"));
  module.def("activate", [](const std::string& isa, const std::string& name, const Vector& values,
                            const Array<float, 1>& out) {
    const Kernels& kernels = find_kernels(isa);
    const Activation activation = parse_activation(name);
    apply(values, out, [&](float* x, std::size_t count) { kernels.activate(activation, x, count, x); });
  });
  module.def("exponential", [](const std::string& isa, const Vector& values, const Array<float, 1>& out) {
    const Kernels& kernels = find_kernels(isa);
    apply(values, out, [&](float* x, std::size_t count) { kernels.exponential(x, count, x); });
  });
}

}  // namespace pairscore
