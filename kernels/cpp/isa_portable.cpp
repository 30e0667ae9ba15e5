// Plain C++ for any processor: slow, and the reference that every other instruction set must equal byte for byte.
#include <cstddef>
#include <cstdint>

#define PAIRSCORE_ISA portable
#define PAIRSCORE_NAME "portable"
#define PAIRSCORE_FLOAT_ROWS 4
#define PAIRSCORE_FLOAT_VECTORS 1
#include "vector_portable.h"

namespace pairscore {
namespace portable {
namespace {

using Value = std::uint8_t;
using Weight = std::int8_t;
constexpr std::size_t kTileRows = 4;
constexpr std::size_t kPanelColumns = 16;
constexpr std::size_t kWord = 4;

INLINE const Weight* prepare_panel(const std::int8_t* packed, std::size_t, unsigned char*) { return packed; }

// Sums of four products of an unsigned activation and a signed weight: what vpdpbusd does in one instruction.
template <std::size_t kRows>
NOINLINE void dot_tile(const unsigned char* rows, std::size_t row_bytes, const Weight* weights, std::size_t words,
                     std::int32_t* out) {
  for (std::size_t i = 0; i < kRows; i++) {
    std::int32_t sums[kPanelColumns] = {};
    for (std::size_t word = 0; word < words; word++) {
      const unsigned char* values = rows + i * row_bytes + word * kWord;
      const Weight* panel = weights + word * kPanelColumns * kWord;
      for (std::size_t j = 0; j < kPanelColumns; j++)
        for (std::size_t k = 0; k < kWord; k++) sums[j] += values[k] * panel[j * kWord + k];
    }
    for (std::size_t j = 0; j < kPanelColumns; j++) out[i * kPanelColumns + j] = sums[j];
  }
}

INLINE float square_root(float x) { return std::sqrt(x); }

}  // namespace
}  // namespace portable
}  // namespace pairscore

#include "operations.h"

const pairscore::Kernels* pairscore::portable_kernels() { return &pairscore::portable::kTable; }
