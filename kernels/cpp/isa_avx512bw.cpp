// AVX-512 without VNNI (Intel's Skylake): what isa_avx2.cpp does, on registers twice as wide and twice as many.
#include <cstddef>
#include <cstdint>

#define PAIRSCORE_ISA avx512bw
#define PAIRSCORE_NAME "avx512bw"
#define PAIRSCORE_FLOAT_VECTORS 2
#if defined(__GNUC__) && !defined(PAIRSCORE_EMULATED)
#define PAIRSCORE_REGISTER "v"
#endif
#include "vector_avx512.h"

namespace pairscore {
namespace avx512bw {
namespace {

using Value = std::uint16_t;
using Weight = std::int16_t;
constexpr std::size_t kWord = 2;
// 24 sums, 2 registers of weights, 1 of activations and 1 product, of 32 registers.
constexpr std::size_t kTileRows = 12;
using Sums = __m512i;
constexpr std::size_t kPanelRegisters = 2;

NOINLINE const Weight* prepare_panel(const std::int8_t* packed, std::size_t count, unsigned char* scratch) {
  for (std::size_t i = 0; i < count; i += 32) {
    __m256i narrow = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(packed + i));
    _mm512_store_si512(scratch + 2 * i, _mm512_cvtepi8_epi16(narrow));
  }
  return reinterpret_cast<const Weight*>(scratch);
}

INLINE void first_sums(const Weight*, std::size_t, Sums* sums) { sums[0] = sums[1] = _mm512_setzero_si512(); }
INLINE __m512i columns_at(const Weight* from) { return _mm512_load_si512(from); }
INLINE __m512i broadcast(std::int32_t two) { return _mm512_set1_epi32(two); }
INLINE Sums dot(Sums sum, __m512i values, __m512i columns) {
  __m512i products = _mm512_madd_epi16(values, columns);
#ifdef PAIRSCORE_REGISTER
  __asm__ volatile("vpaddd %1, %0, %0" : "+v"(sum) : "v"(products));  // See isa_avx2.cpp.
  return sum;
#else
  return _mm512_add_epi32(sum, products);
#endif
}

}  // namespace
}  // namespace avx512bw
}  // namespace pairscore

#include "tile.h"
// After the tile that it is made of.
#include "operations.h"

const pairscore::Kernels* pairscore::avx512bw_kernels() { return &pairscore::avx512bw::kTable; }
