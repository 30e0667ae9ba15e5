// AVX-VNNI: vpdpbusd on 256-bit registers adds four products of 8-bit values to a 32-bit sum, exactly.
#include <cstddef>
#include <cstdint>

#define PAIRSCORE_ISA avxvnni
#define PAIRSCORE_NAME "avxvnni"
#define PAIRSCORE_VNNI 1
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
constexpr std::size_t kWord = 4;
// 12 sums, 2 registers of weights and 1 of activations, of 16 registers.
constexpr std::size_t kTileRows = 6;
using Sums = __m256i;
constexpr std::size_t kPanelRegisters = 2;

INLINE const Weight* prepare_panel(const std::int8_t* packed, std::size_t, unsigned char*) { return packed; }
INLINE void first_sums(const Weight*, std::size_t, Sums* sums) { sums[0] = sums[1] = _mm256_setzero_si256(); }
INLINE __m256i columns_at(const Weight* from) { return _mm256_load_si256(reinterpret_cast<const __m256i*>(from)); }
INLINE __m256i broadcast(std::int32_t four) { return _mm256_set1_epi32(four); }
INLINE Sums dot(Sums sum, __m256i values, __m256i columns) { return _mm256_dpbusd_avx_epi32(sum, values, columns); }

}  // namespace
}  // namespace avxvnni
}  // namespace pairscore

#include "tile.h"
// After the tile that it is made of.
#include "operations.h"

const pairscore::Kernels* pairscore::avxvnni_kernels() { return &pairscore::avxvnni::kTable; }
