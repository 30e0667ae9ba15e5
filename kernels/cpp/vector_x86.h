// What AVX2 and AVX-512 share: reductions of sixteen lanes that come as two halves, and a transposition.
#pragma once

#include <immintrin.h>

#include "compiler.h"

namespace pairscore {
namespace PAIRSCORE_ISA {
namespace {

// Lane i with lane i + 8, then + 4, + 2, + 1.
#define PAIRSCORE_REDUCE(name, combine)                                                                  \
  INLINE float name(__m256 low, __m256 high) {                                                           \
    __m256 eight = _mm256_##combine##_ps(low, high);                                                     \
    __m128 four = _mm_##combine##_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));    \
    __m128 two = _mm_##combine##_ps(four, _mm_movehl_ps(four, four));                                    \
    return _mm_cvtss_f32(_mm_##combine##_ss(two, _mm_shuffle_ps(two, two, 1)));                          \
  }
PAIRSCORE_REDUCE(sum, add)
PAIRSCORE_REDUCE(smallest, min)
PAIRSCORE_REDUCE(largest, max)
#undef PAIRSCORE_REDUCE

// to[j][i] = rows[i][j] for eight rows of eight columns: pairs of floats change places, then pairs of those, then halves.
INLINE void transpose(const float* const rows[8], float* to, std::size_t to_stride) {
  __m256 pairs[8], fours[8];
  PAIRSCORE_UNROLL
  for (std::size_t i = 0; i < 8; i += 2) {
    __m256 even = _mm256_loadu_ps(rows[i]), odd = _mm256_loadu_ps(rows[i + 1]);
    pairs[i] = _mm256_unpacklo_ps(even, odd);
    pairs[i + 1] = _mm256_unpackhi_ps(even, odd);
  }
  PAIRSCORE_UNROLL
  for (std::size_t i = 0; i < 8; i += 4) {
    PAIRSCORE_UNROLL
    for (std::size_t j = 0; j < 2; j++) {
      fours[i + 2 * j] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0x44);
      fours[i + 2 * j + 1] = _mm256_shuffle_ps(pairs[i + j], pairs[i + j + 2], 0xEE);
    }
  }
  PAIRSCORE_UNROLL
  for (std::size_t i = 0; i < 4; i++) {
    _mm256_storeu_ps(to + i * to_stride, _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20));
    _mm256_storeu_ps(to + (i + 4) * to_stride, _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31));
  }
}

}  // namespace
}  // namespace PAIRSCORE_ISA
}  // namespace pairscore
