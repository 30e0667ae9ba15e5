// AVX-512 VNNI: vpdpbusd on 512-bit registers adds four products of 8-bit values to a 32-bit sum, exactly.
#include <cstddef>
#include <cstdint>
#include <cstring>

#define PAIRSCORE_ISA avx512vnni
#define PAIRSCORE_NAME "avx512vnni"
#define PAIRSCORE_FLOAT_ROWS 8
#define PAIRSCORE_FLOAT_VECTORS 2
#if defined(__GNUC__) && !defined(PAIRSCORE_EMULATED)
#define PAIRSCORE_REGISTER "v"
#endif
#include "vector_avx512.h"

namespace pairscore {
namespace avx512vnni {
namespace {

using Value = std::uint8_t;
using Weight = std::int8_t;
constexpr std::size_t kTileRows = 12;
constexpr std::size_t kPanelColumns = 32;
constexpr std::size_t kWord = 4;

INLINE const Weight* prepare_panel(const std::int8_t* packed, std::size_t, unsigned char*) { return packed; }

// 24 sums, 2 registers of weights and 1 of activations, of 32 registers.
template <std::size_t kRows>
NOINLINE void dot_tile(const unsigned char* rows, std::size_t row_bytes, const Weight* weights, std::size_t words,
                     std::int32_t* out) {
  __m512i sums[kRows][2];
  PAIRSCORE_UNROLL
  for (std::size_t i = 0; i < kRows; i++) sums[i][0] = sums[i][1] = _mm512_setzero_si512();
  for (std::size_t word = 0; word < words; word++) {
    const Weight* pair = weights + word * kPanelColumns * kWord;
    __m512i left = _mm512_load_si512(pair), right = _mm512_load_si512(pair + 64);
    PAIRSCORE_UNROLL
    for (std::size_t i = 0; i < kRows; i++) {
      std::int32_t four;
      std::memcpy(&four, rows + i * row_bytes + word * sizeof four, sizeof four);
      __m512i values = _mm512_set1_epi32(four);
      sums[i][0] = _mm512_dpbusd_epi32(sums[i][0], values, left);
      KEEP(sums[i][0], values);
      sums[i][1] = _mm512_dpbusd_epi32(sums[i][1], values, right);
      KEEP(sums[i][1], values);
    }
  }
  PAIRSCORE_UNROLL
  for (std::size_t i = 0; i < kRows; i++) {
    _mm512_store_si512(out + i * kPanelColumns, sums[i][0]);
    _mm512_store_si512(out + i * kPanelColumns + 16, sums[i][1]);
  }
}

INLINE float square_root(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }

}  // namespace
}  // namespace avx512vnni
}  // namespace pairscore

#include "operations.h"

const pairscore::Kernels* pairscore::avx512vnni_kernels() { return &pairscore::avx512vnni::kTable; }
