// Stands before the compiler's <immintrin.h> in the build that tests AVX-512 VNNI and AVX-VNNI on processors without
// them: the intrinsics that cpp/vector_avx512.h, cpp/isa_avx512vnni.cpp and cpp/isa_avxvnni.cpp use become functions of
// SIMDe (https://github.com/simd-everywhere/simde), which compute the same on AVX2. Those sources stay as they are.
#pragma once
#pragma GCC system_header

#include_next <immintrin.h>
#include <simde/x86/avx512.h>

#define __m512 simde__m512
#define __m512i simde__m512i

#define _mm512_add_epi32 simde_mm512_add_epi32
#define _mm512_add_ps simde_mm512_add_ps
#define _mm512_castpd_ps simde_mm512_castpd_ps
#define _mm512_castps512_ps256 simde_mm512_castps512_ps256
#define _mm512_castps_pd simde_mm512_castps_pd
#define _mm512_castps_si512 simde_mm512_castps_si512
#define _mm512_castsi512_ps simde_mm512_castsi512_ps
#undef _mm512_cmp_ps_mask
#define _mm512_cmp_ps_mask simde_mm512_cmp_ps_mask
#define _mm512_cvtepi32_epi8 pairscore_mm512_cvtepi32_epi8
#define _mm512_cvtepi32_ps simde_mm512_cvtepi32_ps
#define _mm512_cvtps_epi32 simde_mm512_cvtps_epi32
#define _mm512_cvtsepi32_epi8 simde_mm512_cvtsepi32_epi8
#define _mm512_div_ps simde_mm512_div_ps
#define _mm512_dpbusd_epi32 simde_mm512_dpbusd_epi32
#undef _mm512_extractf64x4_pd
#define _mm512_extractf64x4_pd simde_mm512_extractf64x4_pd
#define _mm512_fmadd_ps simde_mm512_fmadd_ps
#define _mm512_load_si512 simde_mm512_load_si512
#define _mm512_loadu_ps simde_mm512_loadu_ps
#define _mm512_loadu_si512 simde_mm512_loadu_si512
#define _mm512_maskz_mov_ps simde_mm512_maskz_mov_ps
#define _mm512_max_epi32 simde_mm512_max_epi32
#define _mm512_max_ps simde_mm512_max_ps
#define _mm512_min_epi32 simde_mm512_min_epi32
#define _mm512_min_ps simde_mm512_min_ps
#define _mm512_mul_ps simde_mm512_mul_ps
#define _mm512_mullo_epi32 simde_mm512_mullo_epi32
#define _mm512_set1_epi32 simde_mm512_set1_epi32
#define _mm512_set1_ps simde_mm512_set1_ps
#define _mm512_setzero_si512 simde_mm512_setzero_si512
#undef _mm512_slli_epi32
#define _mm512_slli_epi32 simde_mm512_slli_epi32
#define _mm512_store_si512 simde_mm512_store_si512
#define _mm512_storeu_ps simde_mm512_storeu_ps
#define _mm512_sub_epi32 simde_mm512_sub_epi32
#define _mm512_sub_ps simde_mm512_sub_ps

// The same instruction in another encoding.
#define _mm256_dpbusd_avx_epi32 simde_mm256_dpbusd_epi32

// SIMDe 0.8.2 has none: the low byte of each of the sixteen lanes.
static inline __m128i pairscore_mm512_cvtepi32_epi8(simde__m512i a) {
  alignas(64) int lanes[16];
  unsigned char bytes[16];
  simde_mm512_store_si512(lanes, a);
  for (int i = 0; i < 16; i++) bytes[i] = static_cast<unsigned char>(lanes[i]);
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
}
