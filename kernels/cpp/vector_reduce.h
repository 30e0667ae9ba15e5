// Sum, smallest and largest of sixteen lanes on x86: lane i with lane i + 8, then + 4, + 2, + 1.
#pragma once

#include <immintrin.h>

#include "compiler.h"

namespace pairscore {
namespace PAIRSCORE_ISA {
namespace {

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

}  // namespace
}  // namespace PAIRSCORE_ISA
}  // namespace pairscore
