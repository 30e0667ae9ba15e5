// Products of tiles of any height, made of dot_tile() of tile.h or tile_narrow.h.
#pragma once

#include "kernels.h"

namespace pairscore {
namespace PAIRSCORE_ISA {
namespace {

// The sums of a tile, to [rows][kPanelColumns].
struct StoredSums {
  std::int32_t* out;

  INLINE_MEMBER void operator()(std::size_t i, std::size_t j, I16 dots) const {
    store(out + i * kPanelColumns + j, dots);
  }
};

// A tile of `height` rows, from 1 to kRows.
template <std::size_t kRows>
INLINE void dot_rows(std::size_t height, const unsigned char* rows, std::size_t row_bytes, const Weight* weights,
                     std::size_t words, std::int32_t* out) {
  if (height == kRows) return dot_tile<kRows>(rows, row_bytes, weights, words, StoredSums{out});
  if constexpr (kRows > 1) dot_rows<kRows - 1>(height, rows, row_bytes, weights, words, out);
}

// A tile of `height` rows, up to kRows, with any end. Whole tiles end in registers, others, and what takes many
// instructions, in memory.
template <std::size_t kRows, class End>
INLINE void dot_and_end(std::size_t height, const unsigned char* rows, std::size_t row_bytes, const Weight* weights,
                        std::size_t words, bool in_registers, const End& end) {
  if (in_registers && height == kRows) return dot_tile<kRows>(rows, row_bytes, weights, words, end);
  alignas(kAlignment) std::int32_t dots[kRows * kPanelColumns];
  dot_rows<kRows>(height, rows, row_bytes, weights, words, dots);
  for (std::size_t i = 0; i < height; i++)
    for (std::size_t j = 0; j < kPanelColumns; j += kLanes) end(i, j, load(dots + i * kPanelColumns + j));
}

}  // namespace
}  // namespace PAIRSCORE_ISA
}  // namespace pairscore
