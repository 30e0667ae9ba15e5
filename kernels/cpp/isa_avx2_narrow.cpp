// AVX2 and FMA for weights whose sums are narrow (narrow_sums() in layers.h): vpmaddubsw multiplies 8-bit values and adds
// two products in 16 bits, vpaddw adds those of the next word, and all still fits; vpmaddwd by ones adds two such sums in
// 32 bits. Five operations for 64 products, where isa_avx2.cpp takes eight. Attention is the one of that file: keys may be
// of any size.
#include <cstddef>
#include <cstdint>
#include <cstring>

#define PAIRSCORE_ISA avx2_narrow
#define PAIRSCORE_NAME "avx2"
#define PAIRSCORE_FLOAT_VECTORS 1
#if defined(__GNUC__)
#define PAIRSCORE_REGISTER "x"
#endif
#include "vector_avx2.h"

namespace pairscore {
namespace avx2_narrow {
namespace {

using Value = std::uint8_t;
using Weight = std::int8_t;
constexpr std::size_t kWord = 4;
// 8 sums, 4 registers of weights, 2 of activations and 2 of products, of 16; the ones are read from memory.
constexpr std::size_t kTileRows = 4;
constexpr std::size_t kPanelRegisters = 2, kSums = 8, kPanelColumns = kPanelRegisters * kSums;
alignas(32) const std::int16_t kOnes[16] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};

INLINE const Weight* prepare_panel(const std::int8_t* packed, std::size_t, unsigned char*) { return packed; }

// sum + four products of each of two words.
INLINE __m256i dot(__m256i sum, __m256i first, __m256i second, __m256i columns, __m256i next) {
  const __m256i& ones = *reinterpret_cast<const __m256i*>(kOnes);
#ifdef PAIRSCORE_REGISTER
  // GCC otherwise keeps the ones in a register too, and has none left for the last of the sums.
  __m256i products, more;
  __asm__ volatile("vpmaddubsw %[columns], %[first], %[products]\n\tvpmaddubsw %[next], %[second], %[more]\n\t"
                   "vpaddw %[more], %[products], %[products]\n\tvpmaddwd %[ones], %[products], %[products]\n\t"
                   "vpaddd %[products], %[sum], %[sum]"
                   : [sum] "+x"(sum), [products] "=&x"(products), [more] "=&x"(more)
                   : [first] "x"(first), [second] "x"(second), [columns] "x"(columns), [next] "x"(next),
                     [ones] "m"(ones));
  return sum;
#else
  __m256i products = _mm256_add_epi16(_mm256_maddubs_epi16(first, columns), _mm256_maddubs_epi16(second, next));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(products, ones));
#endif
}

INLINE __m256i broadcast(const unsigned char* word) {
  std::int32_t four;
  std::memcpy(&four, word, sizeof four);
  return _mm256_set1_epi32(four);
}

// What tile.h computes, two words at a time: a group has a multiple of 16 columns.
template <std::size_t kRows>
NOINLINE void dot_tile(const unsigned char* rows, std::size_t row_bytes, const Weight* panel, std::size_t words,
                       std::int32_t* out) {
  __m256i sums[kRows][kPanelRegisters];
  PAIRSCORE_UNROLL
  for (std::size_t i = 0; i < kRows; i++) sums[i][0] = sums[i][1] = _mm256_setzero_si256();
  for (std::size_t word = 0; word < words; word += 2) {
    const __m256i* columns = reinterpret_cast<const __m256i*>(panel + word * kPanelColumns * kWord);
    const __m256i left = columns[0], right = columns[1], next_left = columns[2], next_right = columns[3];
    PAIRSCORE_UNROLL
    for (std::size_t i = 0; i < kRows; i++) {
      const unsigned char* row = rows + i * row_bytes + word * kWord;
      const __m256i first = broadcast(row), second = broadcast(row + kWord);
      sums[i][0] = dot(sums[i][0], first, second, left, next_left);
      sums[i][1] = dot(sums[i][1], first, second, right, next_right);
    }
  }
  PAIRSCORE_UNROLL
  for (std::size_t i = 0; i < kRows; i++) {
    PAIRSCORE_UNROLL
    for (std::size_t j = 0; j < kPanelRegisters; j++)
      _mm256_store_si256(reinterpret_cast<__m256i*>(out + i * kPanelColumns + j * kSums), sums[i][j]);
  }
}

}  // namespace
}  // namespace avx2_narrow
}  // namespace pairscore

// After the tile that it is made of.
#include "operations.h"

const pairscore::Kernels* pairscore::avx2_narrow_kernels() {
  static const Kernels table = [] {
    Kernels made = avx2_narrow::kTable;
    made.attention = avx2_kernels()->attention;
    return made;
  }();
  return &table;
}
