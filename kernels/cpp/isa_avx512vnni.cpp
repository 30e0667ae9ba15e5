// AVX-512 VNNI: vpdpbusd on 512-bit registers adds four products of 8-bit values to a 32-bit sum, exactly.
#include <cstddef>
#include <cstdint>

#define PAIRSCORE_ISA avx512vnni
#define PAIRSCORE_NAME "avx512vnni"
#define PAIRSCORE_VNNI 1
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
constexpr std::size_t kWord = 4;
// 24 sums, 2 registers of weights and 1 of activations, of 32 registers.
constexpr std::size_t kTileRows = 12;
using Sums = __m512i;
constexpr std::size_t kPanelRegisters = 2;

INLINE const Weight* prepare_panel(const std::int8_t* packed, std::size_t, unsigned char*) { return packed; }
INLINE void first_sums(const Weight*, std::size_t, Sums* sums) { sums[0] = sums[1] = _mm512_setzero_si512(); }
INLINE __m512i columns_at(const Weight* weights) { return _mm512_load_si512(weights); }
INLINE __m512i broadcast(std::int32_t four) { return _mm512_set1_epi32(four); }
INLINE Sums dot(Sums sum, __m512i values, __m512i columns) { return _mm512_dpbusd_epi32(sum, values, columns); }

}  // namespace
}  // namespace avx512vnni
}  // namespace pairscore

#include "tile.h"
// After the tile that it is made of.
#include "operations.h"

const pairscore::Kernels* pairscore::avx512vnni_kernels() { return &pairscore::avx512vnni::kTable; }
