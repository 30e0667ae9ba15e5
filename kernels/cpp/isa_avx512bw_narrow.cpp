// AVX-512 without VNNI for weights whose sums are narrow: tile_narrow.h.
#include <cstddef>
#include <cstdint>

#define PAIRSCORE_ISA avx512bw_narrow
#define PAIRSCORE_NAME "avx512bw"
#define PAIRSCORE_FLOAT_VECTORS 2
#if defined(__GNUC__) && !defined(PAIRSCORE_EMULATED)
#define PAIRSCORE_REGISTER "v"
#endif
#include "vector_avx512.h"

namespace pairscore {
namespace avx512bw_narrow {
namespace {

// 16 sums, 4 registers of weights, 2 of activations and 2 of products, of 32.
constexpr std::size_t kTileRows = 8;
using Sums = __m512i;

INLINE Sums zero() { return _mm512_setzero_si512(); }
INLINE Sums columns_at(const std::int8_t* from) { return _mm512_load_si512(from); }
INLINE Sums broadcast(std::int32_t four) { return _mm512_set1_epi32(four); }
[[maybe_unused]] INLINE Sums dot_two(Sums sum, Sums first, Sums second, Sums columns, Sums next, Sums ones) {
  Sums products = _mm512_add_epi16(_mm512_maddubs_epi16(first, columns), _mm512_maddubs_epi16(second, next));
  return _mm512_add_epi32(sum, _mm512_madd_epi16(products, ones));
}

}  // namespace
}  // namespace avx512bw_narrow
}  // namespace pairscore

#include "tile_narrow.h"
// After the tile that it is made of.
#include "operations.h"

const pairscore::Kernels* pairscore::avx512bw_narrow_kernels() {
  static const Kernels table = [] {
    Kernels made = avx512bw_narrow::kTable;
    made.attention = avx512bw_kernels()->attention;
    made.gather_positions = avx512bw_kernels()->gather_positions;
    return made;
  }();
  return &table;
}
