// AVX2 and FMA for weights of which no two neighbours of one sign add up to more than 128: vpmaddubsw multiplies 8-bit
// values and adds two products in 16 bits, where 255 * 128 still fits; vpmaddwd by ones adds two of those in 32 bits. A
// third fewer operations than isa_avx2.cpp, whose attention these kernels share: keys may be of any size.
#include <cstddef>
#include <cstdint>

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
// 12 sums, 1 register of activations, 1 of products and 1 of ones, of 16; weights are read from memory.
constexpr std::size_t kTileRows = 6;
using Sums = __m256i;
constexpr std::size_t kPanelRegisters = 2;

INLINE const Weight* prepare_panel(const std::int8_t* packed, std::size_t, unsigned char*) { return packed; }
INLINE void first_sums(const Weight*, std::size_t, Sums* sums) { sums[0] = sums[1] = _mm256_setzero_si256(); }
INLINE const __m256i* columns_at(const Weight* from) { return reinterpret_cast<const __m256i*>(from); }
INLINE __m256i broadcast(std::int32_t four) { return _mm256_set1_epi32(four); }
INLINE Sums dot(Sums sum, __m256i values, const __m256i* columns) {
  const __m256i ones = _mm256_set1_epi16(1);
#ifdef PAIRSCORE_REGISTER
  // GCC otherwise keeps the weights in registers too, and has none left for the last of the sums.
  __m256i products;
  __asm__ volatile("vpmaddubsw %[columns], %[values], %[products]\n\tvpmaddwd %[ones], %[products], %[products]\n\t"
                   "vpaddd %[products], %[sum], %[sum]"
                   : [sum] "+x"(sum), [products] "=&x"(products)
                   : [values] "x"(values), [columns] "m"(*columns), [ones] "x"(ones));
  return sum;
#else
  return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(values, *columns), ones));
#endif
}
INLINE void store(std::int32_t* to, Sums sums) { _mm256_store_si256(reinterpret_cast<__m256i*>(to), sums); }

}  // namespace
}  // namespace avx2_narrow
}  // namespace pairscore

#include "tile.h"
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
