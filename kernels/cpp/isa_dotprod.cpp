// Arm's dot product (Armv8.2): sdot adds four products of signed 8-bit values to a 32-bit sum, exactly.
// Activations are unsigned: 128 is taken off each, and 128 times the sum of the weights stands in the sums at first.
#include <cstddef>
#include <cstdint>

#define PAIRSCORE_ISA dotprod
#define PAIRSCORE_NAME "dotprod"
#define PAIRSCORE_FLOAT_VECTORS 1
#if defined(__GNUC__)
#define PAIRSCORE_REGISTER "w"
#endif
#include "vector_neon.h"

namespace pairscore {
namespace dotprod {
namespace {

using Value = std::uint8_t;
using Weight = std::int8_t;
constexpr std::size_t kWord = 4;
// 24 sums, 4 registers of weights, 1 of activations and 1 of sign bits, of 32 registers.
constexpr std::size_t kTileRows = 6;
using Sums = int32x4_t;
constexpr std::size_t kPanelRegisters = 4;

INLINE const Weight* prepare_panel(const std::int8_t* packed, std::size_t, unsigned char*) { return packed; }
NOINLINE void first_sums(const Weight* panel, std::size_t words, Sums* sums) {
  for (std::size_t j = 0; j < kPanelRegisters; j++) {
    Sums less = vdupq_n_s32(0);
    for (std::size_t word = 0; word < words; word++)
      less = vdotq_s32(less, vdupq_n_s8(-128), vld1q_s8(panel + word * 64 + 16 * j));
    sums[j] = vnegq_s32(less);
  }
}
INLINE int8x16_t columns_at(const Weight* weights) { return vld1q_s8(weights); }
INLINE int8x16_t broadcast(std::int32_t four) {
  return veorq_s8(vreinterpretq_s8_s32(vdupq_n_s32(four)), vdupq_n_s8(-128));
}
INLINE Sums dot(Sums sum, int8x16_t values, int8x16_t columns) { return vdotq_s32(sum, values, columns); }

}  // namespace
}  // namespace dotprod
}  // namespace pairscore

#include "tile.h"
// After the tile that it is made of.
#include "operations.h"

const pairscore::Kernels* pairscore::dotprod_kernels() { return &pairscore::dotprod::kTable; }
