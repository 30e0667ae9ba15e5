// The table of one instruction set: every operation, written once over the sixteen lanes of vector_*.h and the product
// of tile.h, in quantize.h, linear.h, attention.h and floats.h.
//
// An isa_*.cpp includes this file last and exports kTable. Rules that keep all instruction sets byte for byte equal:
// sums run in one written order; `fma` stands where a multiply-add is fused and nowhere else is one (compile with
// -ffp-contract=off); integers are exact. Nothing here may call an inline function of the standard library: the linker
// keeps one copy for the whole program, and it could be one that was compiled for a newer processor.
#pragma once

#include "attention.h"
#include "floats.h"
#include "kernels.h"
#include "linear.h"
#include "product.h"
#include "quantize.h"

namespace pairscore {
namespace PAIRSCORE_ISA {
namespace {

// Products that end at once.
struct WholeTiles {
  template <class End>
  INLINE_MEMBER void operator()(std::size_t height, const unsigned char* rows, std::size_t row_bytes,
                                const Weight* panel, std::size_t words, bool in_registers, const End& end) const {
    dot_and_end<kTileRows>(height, rows, row_bytes, panel, words, in_registers, end);
  }
  INLINE_MEMBER void finish() const {}
};

void linear(const QuantizedRows& rows, std::size_t count, const LinearWeights& weights, Activation activation,
            const float* residual, std::size_t residual_stride, float* out, std::size_t out_stride,
            unsigned char* scratch) {
  const WholeTiles products;
  linear_by(products, rows, count, weights, activation, residual, residual_stride, out, out_stride, scratch);
}

constexpr Kernels table() {
  Kernels made{};
  made.name = PAIRSCORE_NAME;
  made.panel_columns = kPanelColumns;
  made.word = kWord;
  made.activation_bytes = sizeof(Value);
  made.quantize = quantize;
  made.quantize_gated = quantize_gated;
  made.linear = linear;
  made.dense = dense;
  made.layer_norm = layer_norm;
  made.rotate = rotate;
  made.mean = mean;
  made.attention = attention;
  made.state_attention = state_attention;
  made.gather_positions = gather_positions;
  made.embed = embed;
  made.activate = activate;
  made.exponential = exponential_of;
  return made;
}

constexpr Kernels kTable = table();

}  // namespace
}  // namespace PAIRSCORE_ISA
}  // namespace pairscore
