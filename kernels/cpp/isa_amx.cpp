// AMX: tdpbusd multiplies a tile of 16 rows and 64 unsigned 8-bit values by one of 64 signed values and 16 columns, and
// adds the products to a tile of 16 x 16 sums of 32 bits, exactly. Panels of weights are those of isa_avx512vnni.cpp: a
// tile of weights is 16 words of 16 of a panel's 32 columns. What is no such product is AVX-512, as there.
#include <cstddef>
#include <cstdint>

#define PAIRSCORE_ISA amx
#define PAIRSCORE_NAME "amx"
#define PAIRSCORE_VNNI 1
#define PAIRSCORE_FLOAT_VECTORS 2
#if defined(__GNUC__) && !defined(PAIRSCORE_EMULATED)
#define PAIRSCORE_REGISTER "v"
#endif
#include "vector_avx512.h"

namespace pairscore {
namespace amx {
namespace {

using Value = std::uint8_t;
using Weight = std::int8_t;
constexpr std::size_t kWord = 4;
// Two by two tiles of sums, two of activations and two of weights, of eight: four sums at a time hide how long one takes.
constexpr std::size_t kTileRows = 32, kPanelColumns = 32;
// A tile: rows of 64 bytes, that is of 16 words.
constexpr std::size_t kRowsOfTile = 16, kRowBytes = 64, kWordsOfTile = 16;

INLINE const Weight* prepare_panel(const std::int8_t* packed, std::size_t, unsigned char*) { return packed; }

// The argument of ldtilecfg (Intel 64 and IA-32 Software Developer's Manual, volume 1, section 18.2).
struct TileShapes {
  std::uint8_t palette = 1, start_row = 0, unused[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};

// Tiles 0 to 3: sums, by halves of the rows and of the columns. 4 and 5: activations. 6 and 7: weights.
INLINE void set_shapes(std::size_t height) {
  const std::size_t upper = height < kRowsOfTile ? height : kRowsOfTile, lower = height - upper;
  const std::size_t rows[8] = {upper, upper, lower, lower, upper, lower, kRowsOfTile, kRowsOfTile};
  TileShapes shapes;
  for (std::size_t tile = 0; tile < 8; tile++) {
    shapes.rows[tile] = static_cast<std::uint8_t>(rows[tile]);
    shapes.row_bytes[tile] = rows[tile] ? kRowBytes : 0;
  }
  __asm__ volatile("" : : "r"(&shapes) : "memory");  // GCC says of ldtilecfg that it reads 8 of the 64 bytes
  _tile_loadconfig(&shapes);
}

// What tile.h computes, for tiles whose shapes are set. words: a multiple of kWordsOfTile.
template <bool kLower>
INLINE void dot_tiles(const unsigned char* rows, std::size_t row_bytes, const Weight* panel, std::size_t words,
                      std::int32_t* out) {
  constexpr std::size_t kWordBytes = kPanelColumns * kWord, kOutBytes = kPanelColumns * sizeof *out;
  _tile_zero(0);
  _tile_zero(1);
  if (kLower) {
    _tile_zero(2);
    _tile_zero(3);
  }
  for (std::size_t word = 0; word < words; word += kWordsOfTile) {
    const unsigned char* upper = rows + word * kWord;
    const Weight* left = panel + word * kWordBytes;
    _tile_loadd(4, upper, row_bytes);
    _tile_loadd(6, left, kWordBytes);
    _tile_dpbusd(0, 4, 6);
    _tile_loadd(7, left + kRowBytes, kWordBytes);
    _tile_dpbusd(1, 4, 7);
    if (kLower) {
      _tile_loadd(5, upper + kRowsOfTile * row_bytes, row_bytes);
      _tile_dpbusd(2, 5, 6);
      _tile_dpbusd(3, 5, 7);
    }
  }
  _tile_stored(0, out, kOutBytes);
  _tile_stored(1, out + kRowsOfTile, kOutBytes);
  if (kLower) {
    _tile_stored(2, out + kRowsOfTile * kPanelColumns, kOutBytes);
    _tile_stored(3, out + kRowsOfTile * kPanelColumns + kRowsOfTile, kOutBytes);
  }
}

// Shapes are those of whole tiles before and after.
template <std::size_t kRows, class End>
NOINLINE void dot_tile(const unsigned char* rows, std::size_t row_bytes, const Weight* panel, std::size_t words,
                       const End& end) {
  alignas(kAlignment) std::int32_t dots[kRows * kPanelColumns];
  if (kRows < kTileRows) set_shapes(kRows);
  dot_tiles<(kRows > kRowsOfTile)>(rows, row_bytes, panel, words, dots);
  if (kRows < kTileRows) set_shapes(kTileRows);
  for (std::size_t i = 0; i < kRows; i++)
    for (std::size_t j = 0; j < kPanelColumns; j += kLanes) end(i, j, load(dots + i * kPanelColumns + j));
}

}  // namespace
}  // namespace amx
}  // namespace pairscore

// After the tile that it is made of.
#include "operations.h"

namespace pairscore {
namespace amx {
namespace {

void linear_by_tiles(const QuantizedRows& rows, std::size_t count, const LinearWeights& weights, Activation activation,
                     const float* residual, std::size_t residual_stride, float* out, std::size_t out_stride,
                     unsigned char* scratch) {
  if (weights.group_size % (kWordsOfTile * kWord) != 0)
    return avx512vnni_kernels()->linear(rows, count, weights, activation, residual, residual_stride, out, out_stride,
                                        scratch);
  set_shapes(kTileRows);
  linear(rows, count, weights, activation, residual, residual_stride, out, out_stride, scratch);
  _tile_release();
}

}  // namespace
}  // namespace amx
}  // namespace pairscore

const pairscore::Kernels* pairscore::amx_kernels() {
  static const Kernels table = [] {
    Kernels made = *avx512vnni_kernels();
    made.name = PAIRSCORE_NAME;
    made.linear = amx::linear_by_tiles;
    return made;
  }();
  return &table;
}
