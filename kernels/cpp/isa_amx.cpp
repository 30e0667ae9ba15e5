// AMX: tdpbusd multiplies a tile of 16 rows and 64 unsigned 8-bit values by one of 64 signed values and 16 columns, and
// adds the products to a tile of 16 x 16 sums of 32 bits, exactly. Panels of weights are those of isa_avx512vnni.cpp: a
// tile of weights is 16 words of 16 of a panel's 32 columns. What is no linear layer is AVX-512, as there.
#include <cstddef>
#include <cstdint>
#include <cstring>

#define PAIRSCORE_ISA amx
#define PAIRSCORE_NAME "amx"
#define PAIRSCORE_VNNI 1
#include "vector_avx512.h"

namespace pairscore {
namespace amx {
namespace {

using Value = std::uint8_t;
using Weight = std::int8_t;
constexpr std::size_t kWord = 4;
// Two by two tiles of sums, two of activations and two of weights, of eight: four sums at a time hide how long one takes.
constexpr std::size_t kTileRows = kMostTileRows, kPanelColumns = 32;
// A tile: rows of 64 bytes, that is of 16 words.
constexpr std::size_t kRowsOfTile = 16, kRowBytes = 64, kWordsOfTile = 16;

INLINE const Weight* prepare_panel(const std::int8_t* packed, std::size_t, unsigned char*) { return packed; }

// The argument of ldtilecfg (Intel 64 and IA-32 Software Developer's Manual, volume 1, section 18.2).
struct TileShapes {
  std::uint8_t palette = 1, start_row = 0, unused[14] = {};
  std::uint16_t row_bytes[16] = {};
  std::uint8_t rows[16] = {};
};

// All tiles are whole, and hold zeros.
INLINE void set_shapes() {
  TileShapes shapes;
  for (std::size_t tile = 0; tile < 8; tile++) {
    shapes.rows[tile] = kRowsOfTile;
    shapes.row_bytes[tile] = kRowBytes;
  }
  __asm__ volatile("" : : "r"(&shapes) : "memory");  // GCC says of ldtilecfg that it reads 8 of the 64 bytes
  _tile_loadconfig(&shapes);
}

}  // namespace
}  // namespace amx
}  // namespace pairscore

#include "linear.h"

namespace pairscore {
namespace amx {
namespace {

// Products whose ends run while the next one is computed: the processor multiplies tiles beside its other units. The sums
// of a product stay in the tiles until the next begins, and then in `dots_` until their end has run. `finish` ends the last.
//
// Tiles 0 to 3: sums, by halves of the columns and of the rows. 4 and 5: activations. 6 and 7: weights.
class OverlappedTiles {
 public:
  // Rows behind the last are multiplied too, and their sums dropped. words: a multiple of kWordsOfTile.
  template <class End>
  NOINLINE_MEMBER void operator()(std::size_t height, const unsigned char* rows, std::size_t row_bytes,
                                  const Weight* panel, std::size_t words, bool, const End& end) {
    constexpr std::size_t kWordBytes = kPanelColumns * kWord, kHalf = kRowsOfTile * kPanelColumns;
    const bool overlaps = finish_ == finish_as<End>;
    Ends<End> ends(*this, overlaps ? height_ : 0, 4 * (words / kWordsOfTile - 1));

    const unsigned char* lower = rows + kRowsOfTile * row_bytes;
    _tile_loadd(4, rows, row_bytes);
    _tile_loadd(6, panel, kWordBytes);
    _tile_stored(0, dots_, kOutBytes);
    _tile_zero(0);
    _tile_dpbusd(0, 4, 6);
    _tile_loadd(5, lower, row_bytes);
    _tile_stored(2, dots_ + kHalf, kOutBytes);
    _tile_zero(2);
    _tile_dpbusd(2, 5, 6);
    _tile_loadd(7, panel + kRowBytes, kWordBytes);
    _tile_stored(1, dots_ + kRowsOfTile, kOutBytes);
    _tile_zero(1);
    _tile_dpbusd(1, 4, 7);
    _tile_stored(3, dots_ + kHalf + kRowsOfTile, kOutBytes);
    _tile_zero(3);
    _tile_dpbusd(3, 5, 7);
    for (std::size_t word = kWordsOfTile; word < words; word += kWordsOfTile) {
      rows += kRowBytes;
      lower += kRowBytes;
      panel += kWordsOfTile * kWordBytes;
      _tile_loadd(4, rows, row_bytes);
      _tile_loadd(6, panel, kWordBytes);
      _tile_dpbusd(0, 4, 6);
      ends.run_some();
      _tile_loadd(5, lower, row_bytes);
      _tile_dpbusd(2, 5, 6);
      ends.run_some();
      _tile_loadd(7, panel + kRowBytes, kWordBytes);
      _tile_dpbusd(1, 4, 7);
      ends.run_some();
      _tile_dpbusd(3, 5, 7);
      ends.run_some();
    }
    ends.run(kTileRows);
    if (!overlaps && finish_) finish_(*this);

    height_ = height;
    static_assert(sizeof end <= sizeof end_, "room for every end");
    std::memcpy(end_, &end, sizeof end);
    finish_ = finish_as<End>;
  }

  void finish() {
    constexpr std::size_t kHalf = kRowsOfTile * kPanelColumns;
    _tile_stored(0, dots_, kOutBytes);
    _tile_stored(1, dots_ + kRowsOfTile, kOutBytes);
    _tile_stored(2, dots_ + kHalf, kOutBytes);
    _tile_stored(3, dots_ + kHalf + kRowsOfTile, kOutBytes);
    if (finish_) finish_(*this);
  }

 private:
  static constexpr std::size_t kOutBytes = kPanelColumns * sizeof(std::int32_t);

  // The ends of the rows in `dots_`, some at a time, in so many parts.
  template <class End>
  class Ends {
   public:
    INLINE_MEMBER Ends(const OverlappedTiles& tiles, std::size_t count, std::size_t parts)
        : dots_(tiles.dots_), count_(count), step_(parts ? (count + parts - 1) / parts : 0) {
      std::memcpy(&end_, tiles.end_, sizeof end_);
      if (!count) return;
      for (std::size_t j = 0; j < kVectors; j++) columns_[j] = end_.columns(j * kLanes);
    }
    INLINE_MEMBER void run_some() { run(row_ + step_); }
    INLINE_MEMBER void run(std::size_t stop) {
      for (; row_ < stop && row_ < count_; row_++) {
        PAIRSCORE_UNROLL
        for (std::size_t j = 0; j < kVectors; j++)
          if (j * kLanes < end_.width)
            end_.end(row_, j * kLanes, load(dots_ + row_ * kPanelColumns + j * kLanes), columns_[j]);
      }
    }

   private:
    static constexpr std::size_t kVectors = kPanelColumns / kLanes;
    const std::int32_t* dots_;
    std::size_t count_, step_, row_ = 0;
    End end_;
    typename End::Columns columns_[kVectors];
  };

  template <class End>
  static void finish_as(const OverlappedTiles& tiles) {
    Ends<End>(tiles, tiles.height_, 0).run(kTileRows);
  }

  alignas(kAlignment) std::int32_t dots_[kTileRows * kPanelColumns];
  std::size_t height_ = 0;
  alignas(kAlignment) unsigned char end_[2 * kAlignment];
  void (*finish_)(const OverlappedTiles&) = nullptr;
};

void linear(const QuantizedRows& rows, std::size_t count, const LinearWeights& weights, Activation activation,
            const float* residual, std::size_t residual_stride, float* out, std::size_t out_stride,
            unsigned char* scratch) {
  if (weights.group_size % (kWordsOfTile * kWord) != 0)
    return avx512vnni_kernels()->linear(rows, count, weights, activation, residual, residual_stride, out, out_stride,
                                        scratch);
  set_shapes();
  OverlappedTiles products;
  linear_by(products, rows, count, weights, activation, residual, residual_stride, out, out_stride, scratch);
  _tile_release();
}

}  // namespace
}  // namespace amx
}  // namespace pairscore

const pairscore::Kernels* pairscore::amx_kernels() {
  static const Kernels table = [] {
    Kernels made = *avx512vnni_kernels();
    made.name = PAIRSCORE_NAME;
    made.linear = amx::linear;
    return made;
  }();
  return &table;
}
