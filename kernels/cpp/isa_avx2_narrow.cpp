// AVX2 and FMA for weights whose sums are narrow: tile_narrow.h.
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

// 8 sums, 4 registers of weights, 2 of activations and 2 of products, of 16; the ones are read from memory.
constexpr std::size_t kTileRows = 4;
using Sums = __m256i;

INLINE Sums zero() { return _mm256_setzero_si256(); }
INLINE Sums columns_at(const std::int8_t* from) { return _mm256_load_si256(reinterpret_cast<const Sums*>(from)); }
INLINE Sums broadcast(std::int32_t four) { return _mm256_set1_epi32(four); }
[[maybe_unused]] INLINE Sums dot_two(Sums sum, Sums first, Sums second, Sums columns, Sums next, Sums ones) {
  Sums products = _mm256_add_epi16(_mm256_maddubs_epi16(first, columns), _mm256_maddubs_epi16(second, next));
  return _mm256_add_epi32(sum, _mm256_madd_epi16(products, ones));
}

}  // namespace
}  // namespace avx2_narrow
}  // namespace pairscore

#include "tile_narrow.h"
// After the tile that it is made of.
#include "operations.h"

const pairscore::Kernels* pairscore::avx2_narrow_kernels() {
  static const Kernels table = [] {
    Kernels made = avx2_narrow::kTable;
    made.attention = avx2_kernels()->attention;
    made.gather_positions = avx2_kernels()->gather_positions;
    return made;
  }();
  return &table;
}
