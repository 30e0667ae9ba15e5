// Plain C++ for any processor: slow, and the reference that every other instruction set must equal byte for byte.
#include <cstddef>
#include <cstdint>

#define PAIRSCORE_ISA portable
#define PAIRSCORE_NAME "portable"
#define PAIRSCORE_FLOAT_VECTORS 1
#include "vector_portable.h"

namespace pairscore {
namespace portable {
namespace {

using Value = std::uint8_t;
using Weight = std::int8_t;
constexpr std::size_t kWord = 4;
constexpr std::size_t kTileRows = 4;
using Sums = I16;
constexpr std::size_t kPanelRegisters = 1;

INLINE const Weight* prepare_panel(const std::int8_t* packed, std::size_t, unsigned char*) { return packed; }
INLINE void first_sums(const Weight*, std::size_t, Sums* sums) { *sums = splat(0); }
INLINE const Weight* columns_at(const Weight* weights) { return weights; }
INLINE std::int32_t broadcast(std::int32_t four) { return four; }
// Sums of four products of an unsigned activation and a signed weight: what vpdpbusd does in one instruction.
INLINE Sums dot(Sums sum, std::int32_t four, const Weight* columns) {
  std::uint8_t values[kWord];
  std::memcpy(values, &four, sizeof four);
  for (std::size_t j = 0; j < kLanes; j++)
    for (std::size_t k = 0; k < kWord; k++) sum.lane[j] += values[k] * columns[j * kWord + k];
  return sum;
}

}  // namespace
}  // namespace portable
}  // namespace pairscore

#include "tile.h"
// After the tile that it is made of.
#include "operations.h"

const pairscore::Kernels* pairscore::portable_kernels() { return &pairscore::portable::kTable; }
