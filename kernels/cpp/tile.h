// The int8 product of a tile, written once over the registers of an instruction set.
//
// An isa_*.cpp includes this file after it has named:
//   Value, Weight           how an activation and a weight are stored
//   kWord                   activations in the four bytes that one instruction takes at once
//   kTileRows               rows of a tile
//   Sums, kPanelRegisters   a register of 32-bit sums, one a column, and how many of them a panel takes
//   first_sums              what the sums of a panel start with
//   columns_at              the weights of one word for a register's columns
//   broadcast               the four bytes of activations, copied to every column
//   dot                     sum + products of the word
#pragma once

#include <cstring>

namespace pairscore {
namespace PAIRSCORE_ISA {
namespace {

constexpr std::size_t kSums = sizeof(Sums) / sizeof(std::int32_t);
constexpr std::size_t kPanelColumns = kPanelRegisters * kSums;

// Calls end(i, j, sums) with rows[i] * columns j to j + 15 of the panel, exactly, for kRows rows.
template <std::size_t kRows, class End>
NOINLINE void dot_tile(const unsigned char* rows, std::size_t row_bytes, const Weight* panel, std::size_t words,
                       const End& how) {
  Sums sums[kRows][kPanelRegisters];
  first_sums(panel, words, sums[0]);
  PAIRSCORE_UNROLL
  for (std::size_t i = 1; i < kRows; i++) {
    PAIRSCORE_UNROLL
    for (std::size_t j = 0; j < kPanelRegisters; j++) sums[i][j] = sums[0][j];
  }
  for (std::size_t word = 0; word < words; word++) {
    decltype(columns_at(panel)) columns[kPanelRegisters];
    PAIRSCORE_UNROLL
    for (std::size_t j = 0; j < kPanelRegisters; j++)
      columns[j] = columns_at(panel + (word * kPanelColumns + j * kSums) * kWord);
    PAIRSCORE_UNROLL
    for (std::size_t i = 0; i < kRows; i++) {
      std::int32_t four;
      std::memcpy(&four, rows + i * row_bytes + word * sizeof four, sizeof four);
      auto values = broadcast(four);
      PAIRSCORE_UNROLL
      for (std::size_t j = 0; j < kPanelRegisters; j++) {
        sums[i][j] = dot(sums[i][j], values, columns[j]);
        KEEP(sums[i][j], values);
      }
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
