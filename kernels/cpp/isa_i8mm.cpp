// Arm's 8-bit matrix extension (i8mm, Armv8.6): usmmla multiplies two rows of eight unsigned 8-bit values by two columns of
// eight signed ones, and adds the four sums to those in a register, exactly: twice the products of usdot. Linear layers
// are made of it; all else is that of isa_usdot.cpp.
#include <cstddef>
#include <cstdint>

#define PAIRSCORE_ISA i8mm
#define PAIRSCORE_NAME "i8mm"
#define PAIRSCORE_FLOAT_VECTORS 1
#if defined(__GNUC__)
#define PAIRSCORE_REGISTER "w"
#endif
#include "vector_neon.h"

namespace pairscore {
namespace i8mm {
namespace {

using Value = std::uint8_t;
using Weight = std::int8_t;
// Eight activations at once. 24 registers of sums, 3 of activations, 1 of weights, of 32.
constexpr std::size_t kWord = 8, kTileRows = 6, kPanelColumns = 16;

INLINE const Weight* prepare_panel(const std::int8_t* packed, std::size_t, unsigned char*) { return packed; }

// Row i % 2 of a register of two rows and two columns, and of the next two columns' register.
INLINE int32x4_t row_of(std::size_t i, int32x4_t left, int32x4_t right) {
  const int64x2_t a = vreinterpretq_s64_s32(left), b = vreinterpretq_s64_s32(right);
  return vreinterpretq_s32_s64(i % 2 ? vzip2q_s64(a, b) : vzip1q_s64(a, b));
}

// What tile.h computes. A last row without a second one is multiplied twice.
template <std::size_t kRows, class End>
NOINLINE void dot_tile(const unsigned char* rows, std::size_t row_bytes, const Weight* panel, std::size_t words,
                       const End& how) {
  constexpr std::size_t kRowPairs = (kRows + 1) / 2, kColumnPairs = kPanelColumns / 2;
  int32x4_t sums[kRowPairs][kColumnPairs];
  PAIRSCORE_UNROLL
  for (std::size_t i = 0; i < kRowPairs; i++) {
    PAIRSCORE_UNROLL
    for (std::size_t j = 0; j < kColumnPairs; j++) sums[i][j] = vdupq_n_s32(0);
  }
  for (std::size_t word = 0; word < words; word++) {
    uint8x16_t values[kRowPairs];
    PAIRSCORE_UNROLL
    for (std::size_t i = 0; i < kRowPairs; i++) {
      const unsigned char* first = rows + 2 * i * row_bytes + word * kWord;
      const unsigned char* second = 2 * i + 1 < kRows ? first + row_bytes : first;
      values[i] = vcombine_u8(vld1_u8(first), vld1_u8(second));
    }
    PAIRSCORE_UNROLL
    for (std::size_t j = 0; j < kColumnPairs; j++) {
      const int8x16_t columns = vld1q_s8(panel + (word * kPanelColumns + 2 * j) * kWord);
      PAIRSCORE_UNROLL
      for (std::size_t i = 0; i < kRowPairs; i++) {
        sums[i][j] = vusmmlaq_s32(sums[i][j], values[i], columns);
        KEEP(sums[i][j], columns);
      }
    }
  }
  const End end = how;  // a copy, whose fields the stores cannot change
  PAIRSCORE_UNROLL
  for (std::size_t i = 0; i < kRows; i++) {
    int32x4_t dots[4];
    PAIRSCORE_UNROLL
    for (std::size_t j = 0; j < 4; j++) dots[j] = row_of(i, sums[i / 2][2 * j], sums[i / 2][2 * j + 1]);
    end(i, 0, gathered(dots));
  }
}

}  // namespace
}  // namespace i8mm
}  // namespace pairscore

// After the tile that it is made of.
#include "operations.h"

const pairscore::Kernels* pairscore::i8mm_kernels() {
  static const Kernels table = [] {
    Kernels made = *usdot_kernels();
    made.word = i8mm::kWord;
    made.linear = i8mm::linear;
    return made;
  }();
  return &table;
}
