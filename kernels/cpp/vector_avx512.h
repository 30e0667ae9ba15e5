// Sixteen lanes as one AVX-512 register. See vector_portable.h for what each function means.
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
  __m512 all;
};
struct I16 {
  __m512i all;
};

INLINE F16 splat(float value) { return {_mm512_set1_ps(value)}; }
INLINE I16 splat(std::int32_t value) { return {_mm512_set1_epi32(value)}; }
INLINE F16 load(const float* from) { return {_mm512_loadu_ps(from)}; }
INLINE I16 load(const std::int32_t* from) { return {_mm512_loadu_si512(from)}; }
INLINE I16 gathered(const __m512i* sums) { return {*sums}; }
INLINE void store(float* to, F16 a) { _mm512_storeu_ps(to, a.all); }
INLINE void store(std::int32_t* to, I16 a) { _mm512_storeu_si512(to, a.all); }
INLINE void keep(F16& sum, F16 factor) { KEEP(sum.all, factor.all); }
INLINE void keep(I16& sum, I16 factor) { KEEP(sum.all, factor.all); }

INLINE F16 operator+(F16 a, F16 b) { return {_mm512_add_ps(a.all, b.all)}; }
INLINE F16 operator-(F16 a, F16 b) { return {_mm512_sub_ps(a.all, b.all)}; }
INLINE F16 operator*(F16 a, F16 b) { return {_mm512_mul_ps(a.all, b.all)}; }
INLINE F16 operator/(F16 a, F16 b) { return {_mm512_div_ps(a.all, b.all)}; }
INLINE F16 fma(F16 a, F16 b, F16 c) { return {_mm512_fmadd_ps(a.all, b.all, c.all)}; }
INLINE F16 min(F16 a, F16 b) { return {_mm512_min_ps(a.all, b.all)}; }
INLINE F16 max(F16 a, F16 b) { return {_mm512_max_ps(a.all, b.all)}; }
INLINE F16 absolute(F16 a) {
  return {_mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(a.all), _mm512_set1_epi32(0x7FFFFFFF)))};
}
INLINE F16 where_greater(F16 a, F16 b, F16 c) {
  return {_mm512_maskz_mov_ps(_mm512_cmp_ps_mask(a.all, b.all, _CMP_GT_OQ), c.all)};
}

INLINE I16 operator+(I16 a, I16 b) { return {_mm512_add_epi32(a.all, b.all)}; }
INLINE I16 operator-(I16 a, I16 b) { return {_mm512_sub_epi32(a.all, b.all)}; }

INLINE std::int32_t nearest(float a) { return _mm_cvtss_si32(_mm_set_ss(a)); }
INLINE I16 nearest(F16 a) { return {_mm512_cvtps_epi32(a.all)}; }
INLINE I16 bits(F16 a) { return {_mm512_castps_si512(a.all)}; }
INLINE F16 of_bits(I16 a) { return {_mm512_castsi512_ps(a.all)}; }
INLINE I16 max(I16 a, I16 b) { return {_mm512_max_epi32(a.all, b.all)}; }
INLINE I16 max_unsigned(I16 a, I16 b) { return {_mm512_max_epu32(a.all, b.all)}; }
INLINE I16 pairs(I16 a, I16 b) {
  const __m512i low = _mm512_and_si512(a.all, _mm512_set1_epi32(0xFFFF));
  return {_mm512_or_si512(low, _mm512_slli_epi32(b.all, 16))};
}
INLINE I16 dot_pairs(I16 sum, I16 two, I16 values) {
#ifdef PAIRSCORE_VNNI
  return {_mm512_dpwssd_epi32(sum.all, two.all, values.all)};
#else
  return {_mm512_add_epi32(sum.all, _mm512_madd_epi16(two.all, values.all))};
#endif
}
alignas(kAlignment) const std::int16_t kEven[32] = {0,  2,  4,  6,  8,  10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30,
                                                    32, 34, 36, 38, 40, 42, 44, 46, 48, 50, 52, 54, 56, 58, 60, 62};
INLINE I16 low_halves(I16 a, I16 b) { return {_mm512_permutex2var_epi16(a.all, _mm512_load_si512(kEven), b.all)}; }
INLINE F16 look_up(const float* table, I16 index) {
  const __m256d eight = _mm256_castps_pd(_mm256_load_ps(table));
  const __m512 twice = _mm512_castpd_ps(_mm512_broadcast_f64x4(eight));
  return {_mm512_permutexvar_ps(index.all, twice)};
}
INLINE F16 to_float(I16 a) { return {_mm512_cvtepi32_ps(a.all)}; }
INLINE F16 times_power_of_two(F16 a, I16 n) {
  return {_mm512_castsi512_ps(_mm512_add_epi32(_mm512_castps_si512(a.all), _mm512_slli_epi32(n.all, 23)))};
}

INLINE __m256 low_half(F16 a) { return _mm512_castps512_ps256(a.all); }
INLINE __m256 high_half(F16 a) {
  return _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(a.all), 1));
}
INLINE float sum(F16 a) { return sum(low_half(a), high_half(a)); }
INLINE float smallest(F16 a) { return smallest(low_half(a), high_half(a)); }
INLINE float largest(F16 a) { return largest(low_half(a), high_half(a)); }

INLINE __m128i clamped_bytes(I16 a) {
  __m512i positive = _mm512_max_epi32(a.all, _mm512_setzero_si512());
  return _mm512_cvtepi32_epi8(_mm512_min_epi32(positive, _mm512_set1_epi32(255)));
}
INLINE void store_clamped(std::uint8_t* to, I16 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), clamped_bytes(a));
}
INLINE void store_clamped(std::uint16_t* to, I16 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_cvtepu8_epi16(clamped_bytes(a)));
}
// Packing saturates to 0 ... 255; it works within quarters of a register, so words are put in order after.
INLINE void store_clamped(std::uint8_t* to, I16 a, I16 b, I16 c, I16 d) {
  const __m512i bytes = _mm512_packus_epi16(_mm512_packs_epi32(a.all, b.all), _mm512_packs_epi32(c.all, d.all));
  const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  _mm512_storeu_si512(to, _mm512_permutexvar_epi32(order, bytes));
}
INLINE void store_clamped(std::uint16_t* to, I16 a, I16 b, I16 c, I16 d) {
  store_clamped(to, a);
  store_clamped(to + kLanes, b);
  store_clamped(to + 2 * kLanes, c);
  store_clamped(to + 3 * kLanes, d);
}
INLINE void store_clamped(std::int8_t* to, I16 a) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtsepi32_epi8(a.all));
}
INLINE void store_clamped(std::int16_t* to, I16 a) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), _mm256_cvtepi8_epi16(_mm512_cvtsepi32_epi8(a.all)));
}

}  // namespace
}  // namespace PAIRSCORE_ISA
}  // namespace pairscore
