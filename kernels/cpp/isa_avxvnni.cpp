// AVX-VNNI: vpdpbusd on 256-bit registers adds four products of 8-bit values to a 32-bit sum, exactly.
#include <cstddef>
#include <cstdint>
#include <cstring>

#define PAIRSCORE_ISA avxvnni
#define PAIRSCORE_NAME "avxvnni"
#define PAIRSCORE_FLOAT_ROWS 6
#define PAIRSCORE_FLOAT_VECTORS 1
#if defined(__GNUC__) && !defined(PAIRSCORE_EMULATED)
#define PAIRSCORE_REGISTER "x"
#endif
#include "vector_avx2.h"

namespace pairscore {
namespace avxvnni {
namespace {

using Value = std::uint8_t;
using Weight = std::int8_t;
constexpr std::size_t kTileRows = 6;
constexpr std::size_t kPanelColumns = 16;
constexpr std::size_t kWord = 4;

INLINE const Weight* prepare_panel(const std::int8_t* packed, std::size_t, unsigned char*) { return packed; }

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
      std::int32_t four;
      std::memcpy(&four, rows + i * row_bytes + word * sizeof four, sizeof four);
      __m256i values = _mm256_set1_epi32(four);
      sums[i][0] = _mm256_dpbusd_avx_epi32(sums[i][0], values, left);
      KEEP(sums[i][0], values);
      sums[i][1] = _mm256_dpbusd_avx_epi32(sums[i][1], values, right);
      KEEP(sums[i][1], values);
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
}  // namespace avxvnni
}  // namespace pairscore

#include "operations.h"

const pairscore::Kernels* pairscore::avxvnni_kernels() { return &pairscore::avxvnni::kTable; }
