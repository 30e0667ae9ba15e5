// The int8 product of a tile for weights whose sums are narrow (narrow_sums() in layers.h): vpmaddubsw multiplies 8-bit
// values and adds two products in 16 bits, vpaddw adds those of the next word, and all still fits; vpmaddwd by ones adds
// two such sums in 32 bits. Five operations, where widened weights take eight. Keys may be of any size, so attention is
// not made of this tile.
//
// An isa_*.cpp includes this file after it has named:
//   kTileRows                       rows of a tile
//   Sums                            a register of 32-bit sums, one a column
//   zero, columns_at, broadcast     the first sums, the weights of one word, and four activations for every column
//   dot_two                         sum + products of two words, by intrinsics
#pragma once

#include <cstring>

namespace pairscore {
namespace PAIRSCORE_ISA {
namespace {

using Value = std::uint8_t;
using Weight = std::int8_t;
constexpr std::size_t kWord = 4, kPanelRegisters = 2, kSums = sizeof(Sums) / sizeof(std::int32_t);
constexpr std::size_t kPanelColumns = kPanelRegisters * kSums;
alignas(64) const std::int16_t kOnes[32] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
                                            1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

INLINE const Weight* prepare_panel(const std::int8_t* packed, std::size_t, unsigned char*) { return packed; }

// sum + four products of each of two words.
INLINE Sums dot(Sums sum, Sums first, Sums second, Sums columns, Sums next) {
  const Sums& ones = *reinterpret_cast<const Sums*>(kOnes);
#ifdef PAIRSCORE_REGISTER
  // GCC otherwise keeps the ones in a register too, and has none left for the last of the sums.
  Sums products, more;
  __asm__ volatile("vpmaddubsw %[columns], %[first], %[products]\n\tvpmaddubsw %[next], %[second], %[more]\n\t"
                   "vpaddw %[more], %[products], %[products]\n\tvpmaddwd %[ones], %[products], %[products]\n\t"
                   "vpaddd %[products], %[sum], %[sum]"
                   : [sum] "+" PAIRSCORE_REGISTER(sum), [products] "=&" PAIRSCORE_REGISTER(products),
                     [more] "=&" PAIRSCORE_REGISTER(more)
                   : [first] PAIRSCORE_REGISTER(first), [second] PAIRSCORE_REGISTER(second),
                     [columns] PAIRSCORE_REGISTER(columns), [next] PAIRSCORE_REGISTER(next), [ones] "m"(ones));
  return sum;
#else
  return dot_two(sum, first, second, columns, next, ones);
#endif
}

INLINE Sums word_at(const unsigned char* row) {
  std::int32_t four;
  std::memcpy(&four, row, sizeof four);
  return broadcast(four);
}

// What tile.h computes, two words at a time: a group has a multiple of 16 inputs.
template <std::size_t kRows, class End>
NOINLINE void dot_tile(const unsigned char* rows, std::size_t row_bytes, const Weight* panel, std::size_t words,
                       const End& how) {
  Sums sums[kRows][kPanelRegisters];
  PAIRSCORE_UNROLL
  for (std::size_t i = 0; i < kRows; i++) sums[i][0] = sums[i][1] = zero();
  for (std::size_t word = 0; word < words; word += 2) {
    const Weight* columns = panel + word * kPanelColumns * kWord;
    const Sums left = columns_at(columns), right = columns_at(columns + kSums * kWord);
    const Weight* next = columns + kPanelColumns * kWord;
    const Sums next_left = columns_at(next), next_right = columns_at(next + kSums * kWord);
    PAIRSCORE_UNROLL
    for (std::size_t i = 0; i < kRows; i++) {
      const unsigned char* row = rows + i * row_bytes + word * kWord;
      const Sums first = word_at(row), second = word_at(row + kWord);
      sums[i][0] = dot(sums[i][0], first, second, left, next_left);
      sums[i][1] = dot(sums[i][1], first, second, right, next_right);
    }
  }
  const End end = how;  // a copy, whose fields the stores cannot change
  PAIRSCORE_UNROLL
  for (std::size_t i = 0; i < kRows; i++) {
    PAIRSCORE_UNROLL
    for (std::size_t j = 0; j < kPanelColumns; j += kLanes) end(i, j, gathered(sums[i] + j / kSums));
  }
}

}  // namespace
}  // namespace PAIRSCORE_ISA
}  // namespace pairscore
