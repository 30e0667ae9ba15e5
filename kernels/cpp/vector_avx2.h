// Sixteen lanes as two AVX registers, with fused multiply-add. See vector_portable.h for what each function means.
#pragma once

#include <immintrin.h>

#include <cstdint>

#include "compiler.h"
#include "kernels.h"
#include "vector_x86.h"

namespace pairscore {
namespace PAIRSCORE_ISA {
namespace {

struct F16 {
  __m256 low, high;
};
struct I16 {
  __m256i low, high;
};

INLINE F16 splat(float value) { return {_mm256_set1_ps(value), _mm256_set1_ps(value)}; }
INLINE I16 splat(std::int32_t value) { return {_mm256_set1_epi32(value), _mm256_set1_epi32(value)}; }
INLINE F16 load(const float* from) { return {_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)}; }
INLINE I16 load(const std::int32_t* from) {
  return {_mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)),
          _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from + 8))};
}
INLINE I16 gathered(const __m256i* sums) { return {sums[0], sums[1]}; }
INLINE void store(float* to, F16 a) {
  _mm256_storeu_ps(to, a.low);
  _mm256_storeu_ps(to + 8, a.high);
}
INLINE void store(std::int32_t* to, I16 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), a.low);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to + 8), a.high);
}
INLINE void keep(F16& sum, F16 factor) {
  KEEP(sum.low, factor.low);
  KEEP(sum.high, factor.low);
}
INLINE void keep(I16& sum, I16 factor) {
  KEEP(sum.low, factor.low);
  KEEP(sum.high, factor.low);
}

INLINE F16 operator+(F16 a, F16 b) { return {_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)}; }
INLINE F16 operator-(F16 a, F16 b) { return {_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)}; }
INLINE F16 operator*(F16 a, F16 b) { return {_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)}; }
INLINE F16 operator/(F16 a, F16 b) { return {_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)}; }
INLINE F16 fma(F16 a, F16 b, F16 c) {
  return {_mm256_fmadd_ps(a.low, b.low, c.low), _mm256_fmadd_ps(a.high, b.high, c.high)};
}
INLINE F16 min(F16 a, F16 b) { return {_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)}; }
INLINE F16 max(F16 a, F16 b) { return {_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)}; }
INLINE F16 absolute(F16 a) {
  const __m256 sign = _mm256_set1_ps(-0.0f);
  return {_mm256_andnot_ps(sign, a.low), _mm256_andnot_ps(sign, a.high)};
}
INLINE F16 where_greater(F16 a, F16 b, F16 c) {
  return {_mm256_and_ps(_mm256_cmp_ps(a.low, b.low, _CMP_GT_OQ), c.low),
          _mm256_and_ps(_mm256_cmp_ps(a.high, b.high, _CMP_GT_OQ), c.high)};
}

INLINE I16 operator+(I16 a, I16 b) { return {_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)}; }
INLINE I16 operator-(I16 a, I16 b) { return {_mm256_sub_epi32(a.low, b.low), _mm256_sub_epi32(a.high, b.high)}; }

INLINE std::int32_t nearest(float a) { return _mm_cvtss_si32(_mm_set_ss(a)); }
INLINE I16 nearest(F16 a) { return {_mm256_cvtps_epi32(a.low), _mm256_cvtps_epi32(a.high)}; }
INLINE I16 bits(F16 a) { return {_mm256_castps_si256(a.low), _mm256_castps_si256(a.high)}; }
INLINE F16 of_bits(I16 a) { return {_mm256_castsi256_ps(a.low), _mm256_castsi256_ps(a.high)}; }
INLINE I16 max(I16 a, I16 b) { return {_mm256_max_epi32(a.low, b.low), _mm256_max_epi32(a.high, b.high)}; }
INLINE I16 max_unsigned(I16 a, I16 b) { return {_mm256_max_epu32(a.low, b.low), _mm256_max_epu32(a.high, b.high)}; }
INLINE __m256i pairs(__m256i a, __m256i b) {
  return _mm256_blend_epi16(a, _mm256_slli_epi32(b, 16), 0xAA);
}
INLINE I16 pairs(I16 a, I16 b) { return {pairs(a.low, b.low), pairs(a.high, b.high)}; }
INLINE __m256i dot_pairs(__m256i sum, __m256i two, __m256i values) {
#ifdef PAIRSCORE_VNNI
  return _mm256_dpwssd_avx_epi32(sum, two, values);
#else
  return _mm256_add_epi32(sum, _mm256_madd_epi16(two, values));
#endif
}
INLINE I16 dot_pairs(I16 sum, I16 two, I16 values) {
  return {dot_pairs(sum.low, two.low, values.low), dot_pairs(sum.high, two.high, values.high)};
}
INLINE __m256i low_halves(I16 a) {
  const __m256i low = _mm256_set1_epi32(0xFFFF);
  const __m256i packed = _mm256_packus_epi32(_mm256_and_si256(a.low, low), _mm256_and_si256(a.high, low));
  return _mm256_permute4x64_epi64(packed, 0xD8);
}
INLINE I16 low_halves(I16 a, I16 b) { return {low_halves(a), low_halves(b)}; }
INLINE F16 look_up(const float* table, I16 index) {
  const __m256 eight = _mm256_load_ps(table);
  return {_mm256_permutevar8x32_ps(eight, index.low), _mm256_permutevar8x32_ps(eight, index.high)};
}
INLINE F16 to_float(I16 a) { return {_mm256_cvtepi32_ps(a.low), _mm256_cvtepi32_ps(a.high)}; }
INLINE __m256 times_power_of_two(__m256 a, __m256i n) {
  return _mm256_castsi256_ps(_mm256_add_epi32(_mm256_castps_si256(a), _mm256_slli_epi32(n, 23)));
}
INLINE F16 times_power_of_two(F16 a, I16 n) {
  return {times_power_of_two(a.low, n.low), times_power_of_two(a.high, n.high)};
}

INLINE float sum(F16 a) { return sum(a.low, a.high); }
INLINE float smallest(F16 a) { return smallest(a.low, a.high); }
INLINE float largest(F16 a) { return largest(a.low, a.high); }

// Packing saturates to 0 ... 255 by itself; it works within halves of a register, so its lanes are put in order after.
INLINE __m128i clamped_bytes(I16 a) {
  __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a.low, a.high), 0xD8);
  return _mm_packus_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}
INLINE void store_clamped(std::uint8_t* to, I16 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), clamped_bytes(a));
}
INLINE void store_clamped(std::uint16_t* to, I16 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_cvtepu8_epi16(clamped_bytes(a)));
}
INLINE void store_clamped(std::uint8_t* to, I16 a, I16 b) {
  const __m256i words = _mm256_packs_epi32(a.low, a.high), more = _mm256_packs_epi32(b.low, b.high);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to),
                      _mm256_permutevar8x32_epi32(_mm256_packus_epi16(words, more), order));
}
INLINE void store_clamped(std::uint8_t* to, I16 a, I16 b, I16 c, I16 d) {
  store_clamped(to, a, b);
  store_clamped(to + 2 * kLanes, c, d);
}
INLINE void store_clamped(std::uint16_t* to, I16 a, I16 b, I16 c, I16 d) {
  store_clamped(to, a);
  store_clamped(to + kLanes, b);
  store_clamped(to + 2 * kLanes, c);
  store_clamped(to + 3 * kLanes, d);
}
INLINE __m128i clamped_signed_bytes(I16 a) {
  __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(a.low, a.high), 0xD8);
  return _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
}
INLINE void store_clamped(std::int8_t* to, I16 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), clamped_signed_bytes(a));
}
INLINE void store_clamped(std::int16_t* to, I16 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_cvtepi8_epi16(clamped_signed_bytes(a)));
}

}  // namespace
}  // namespace PAIRSCORE_ISA
}  // namespace pairscore
