// AVX2 and FMA: 8-bit values widened to 16 bits, whose products vpmaddwd adds in pairs to 32 bits, exactly.
// (vpmaddubsw multiplies 8-bit values directly, but saturates its sums at 16 bits: wrong scores.)
#include <cstddef>
#include <cstdint>
#include <cstring>

#define PAIRSCORE_ISA avx2
#define PAIRSCORE_NAME "avx2"
#define PAIRSCORE_FLOAT_ROWS 6
#define PAIRSCORE_FLOAT_VECTORS 1
#ifdef __GNUC__
#define PAIRSCORE_REGISTER "x"
#endif
#include "vector_avx2.h"

namespace pairscore {
namespace avx2 {
namespace {

using Value = std::uint16_t;
using Weight = std::int16_t;
constexpr std::size_t kTileRows = 6;
constexpr std::size_t kPanelColumns = 16;
constexpr std::size_t kWord = 2;

NOINLINE const Weight* prepare_panel(const std::int8_t* packed, std::size_t count, unsigned char* scratch) {
  for (std::size_t i = 0; i < count; i += 16) {
    __m128i narrow = _mm_loadu_si128(reinterpret_cast<const __m128i*>(packed + i));
    _mm256_store_si256(reinterpret_cast<__m256i*>(scratch + 2 * i), _mm256_cvtepi8_epi16(narrow));
  }
  return reinterpret_cast<const Weight*>(scratch);
}

// In assembly, since GCC adds into the register of the product and then copies it back: as slow as a third operation.
INLINE void add_to(__m256i& sum, __m256i product) {
#ifdef PAIRSCORE_REGISTER
  __asm__ volatile("vpaddd %1, %0, %0" : "+x"(sum) : "x"(product));
#else
  sum = _mm256_add_epi32(sum, product);
#endif
}

// 12 sums, 2 registers of weights, 1 of activations and 1 product: all 16 registers.
template <std::size_t kRows>
NOINLINE void dot_tile(const unsigned char* rows, std::size_t row_bytes, const Weight* weights, std::size_t words,
                     std::int32_t* out) {
  __m256i sums[kRows][2];
  PAIRSCORE_UNROLL
  for (std::size_t i = 0; i < kRows; i++) sums[i][0] = sums[i][1] = _mm256_setzero_si256();
  for (std::size_t word = 0; word < words; word++) {
    const __m256i* pair = reinterpret_cast<const __m256i*>(weights + word * kPanelColumns * kWord);
    __m256i left = _mm256_load_si256(pair), right = _mm256_load_si256(pair + 1);
    PAIRSCORE_UNROLL
    for (std::size_t i = 0; i < kRows; i++) {
      std::int32_t two;
      std::memcpy(&two, rows + i * row_bytes + word * sizeof two, sizeof two);
      __m256i values = _mm256_set1_epi32(two);
      add_to(sums[i][0], _mm256_madd_epi16(values, left));
      add_to(sums[i][1], _mm256_madd_epi16(values, right));
    }
  }
  PAIRSCORE_UNROLL
  for (std::size_t i = 0; i < kRows; i++) {
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + i * kPanelColumns), sums[i][0]);
    _mm256_store_si256(reinterpret_cast<__m256i*>(out + i * kPanelColumns + 8), sums[i][1]);
  }
}

INLINE float square_root(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }

}  // namespace
}  // namespace avx2
}  // namespace pairscore

#include "operations.h"

const pairscore::Kernels* pairscore::avx2_kernels() { return &pairscore::avx2::kTable; }
