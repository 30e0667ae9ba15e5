// AVX2 and FMA: 8-bit values widened to 16 bits, whose products vpmaddwd adds in pairs to 32 bits, exactly.
// (vpmaddubsw multiplies 8-bit values directly, but saturates its sums at 16 bits: tile_narrow.h.)
#include <cstddef>
#include <cstdint>

#define PAIRSCORE_ISA avx2
#define PAIRSCORE_NAME "avx2"
#define PAIRSCORE_FLOAT_VECTORS 1
#if defined(__GNUC__)
#define PAIRSCORE_REGISTER "x"
#endif
#include "vector_avx2.h"

namespace pairscore {
namespace avx2 {
namespace {

using Value = std::uint16_t;
using Weight = std::int16_t;
constexpr std::size_t kWord = 2;
// 12 sums, 2 registers of weights, 1 of activations and 1 product: all 16 registers.
constexpr std::size_t kTileRows = 6;
using Sums = __m256i;
constexpr std::size_t kPanelRegisters = 2;

NOINLINE const Weight* prepare_panel(const std::int8_t* packed, std::size_t count, unsigned char* scratch) {
  for (std::size_t i = 0; i < count; i += 16) {
    __m128i narrow = _mm_loadu_si128(reinterpret_cast<const __m128i*>(packed + i));
    _mm256_store_si256(reinterpret_cast<__m256i*>(scratch + 2 * i), _mm256_cvtepi8_epi16(narrow));
  }
  return reinterpret_cast<const Weight*>(scratch);
}

INLINE void first_sums(const Weight*, std::size_t, Sums* sums) { sums[0] = sums[1] = _mm256_setzero_si256(); }
INLINE __m256i columns_at(const Weight* from) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(from)); }
INLINE __m256i broadcast(std::int32_t two) { return _mm256_set1_epi32(two); }
INLINE Sums dot(Sums sum, __m256i values, __m256i columns) {
  __m256i products = _mm256_madd_epi16(values, columns);
#ifdef PAIRSCORE_REGISTER
  // GCC otherwise adds into the register of the product and copies it back: as slow as a third operation.
  __asm__ volatile("vpaddd %1, %0, %0" : "+x"(sum) : "x"(products));
  return sum;
#else
  return _mm256_add_epi32(sum, products);
#endif
}

}  // namespace
}  // namespace avx2
}  // namespace pairscore

#include "tile.h"
// After the tile that it is made of.
#include "operations.h"

const pairscore::Kernels* pairscore::avx2_kernels() { return &pairscore::avx2::kTable; }
