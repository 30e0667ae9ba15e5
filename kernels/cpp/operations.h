// The table of one instruction set: every operation, written once over the sixteen lanes of vector_*.h and the product
// of tile.h, in quantize.h, product.h, attention.h and floats.h.
//
// An isa_*.cpp includes this file last and exports kTable. Rules that keep all instruction sets byte for byte equal:
// sums run in one written order; `fma` stands where a multiply-add is fused and nowhere else is one (compile with
// -ffp-contract=off); integers are exact. Nothing here may call an inline function of the standard library: the linker
// keeps one copy for the whole program, and it could be one that was compiled for a newer processor.
#pragma once

#include "attention.h"
#include "floats.h"
#include "kernels.h"
#include "product.h"
#include "quantize.h"

namespace pairscore {
namespace PAIRSCORE_ISA {
namespace {

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
