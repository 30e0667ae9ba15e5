// What AVX2 and AVX-512 share: reductions of sixteen lanes that come as two halves, and a transposition of words.
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

INLINE float square_root(float x) { return _mm_cvtss_f32(_mm_sqrt_ss(_mm_set_ss(x))); }

// Four words of four rows: pairs of words change places, then pairs of those.
INLINE void transpose(const void* from, std::size_t stride, void* to, std::size_t to_stride) {
  __m128i row[4];
  PAIRSCORE_UNROLL
  for (std::size_t i = 0; i < 4; i++)
    row[i] = _mm_loadu_si128(reinterpret_cast<const __m128i*>(static_cast<const char*>(from) + i * stride));
  __m128i low01 = _mm_unpacklo_epi32(row[0], row[1]), high01 = _mm_unpackhi_epi32(row[0], row[1]);
  __m128i low23 = _mm_unpacklo_epi32(row[2], row[3]), high23 = _mm_unpackhi_epi32(row[2], row[3]);
  row[0] = _mm_unpacklo_epi64(low01, low23);
  row[1] = _mm_unpackhi_epi64(low01, low23);
  row[2] = _mm_unpacklo_epi64(high01, high23);
  row[3] = _mm_unpackhi_epi64(high01, high23);
  PAIRSCORE_UNROLL
  for (std::size_t j = 0; j < 4; j++)
    _mm_storeu_si128(reinterpret_cast<__m128i*>(static_cast<char*>(to) + j * to_stride), row[j]);
}

}  // namespace
}  // namespace PAIRSCORE_ISA
}  // namespace pairscore
