// Arm's 8-bit matrix extension (i8mm, Armv8.6): usdot adds four products of an unsigned and a signed 8-bit value to a
// 32-bit sum, exactly. All operations of `i8mm` but linear layers, which take the extension's matrix instructions
// (isa_i8mm.cpp).
#include <cstddef>
#include <cstdint>

#define PAIRSCORE_ISA usdot
#define PAIRSCORE_NAME "i8mm"
#define PAIRSCORE_FLOAT_VECTORS 1
#if defined(__GNUC__)
#define PAIRSCORE_REGISTER "w"
#endif
#include "vector_neon.h"

namespace pairscore {
namespace usdot {
namespace {

using Value = std::uint8_t;
using Weight = std::int8_t;
constexpr std::size_t kWord = 4;
// 24 sums, 4 registers of weights, 1 of activations, of 32 registers.
constexpr std::size_t kTileRows = 6;
using Sums = int32x4_t;
constexpr std::size_t kPanelRegisters = 4;

INLINE const Weight* prepare_panel(const std::int8_t* packed, std::size_t, unsigned char*) { return packed; }
INLINE void first_sums(const Weight*, std::size_t, Sums* sums) {
  for (std::size_t j = 0; j < kPanelRegisters; j++) sums[j] = vdupq_n_s32(0);
}
INLINE int8x16_t columns_at(const Weight* weights) { return vld1q_s8(weights); }
INLINE uint8x16_t broadcast(std::int32_t four) { return vreinterpretq_u8_s32(vdupq_n_s32(four)); }
INLINE Sums dot(Sums sum, uint8x16_t values, int8x16_t columns) { return vusdotq_s32(sum, values, columns); }

}  // namespace
}  // namespace usdot
}  // namespace pairscore

#include "tile.h"
// After the tile that it is made of.
#include "operations.h"

const pairscore::Kernels* pairscore::usdot_kernels() { return &pairscore::usdot::kTable; }
