// Stands before the compiler's <immintrin.h> in the build that tests AMX, AVX-512 and AVX-VNNI on processors without
// them: the intrinsics that cpp/vector_avx512.h, cpp/isa_avx512*.cpp and cpp/isa_avxvnni.cpp use become functions of
// SIMDe (https://github.com/simd-everywhere/simde), which compute the same on AVX2, and those of cpp/isa_amx.cpp plain
// loops. The sources stay as they are.
#pragma once
#pragma GCC system_header

#include_next <immintrin.h>
#include <simde/x86/avx512.h>

#define __m512 simde__m512
#define __m512i simde__m512i

#define _mm512_add_epi16 simde_mm512_add_epi16
#define _mm512_add_epi32 simde_mm512_add_epi32
#define _mm512_add_ps simde_mm512_add_ps
#define _mm512_and_si512 simde_mm512_and_si512
#define _mm512_broadcast_f64x4 simde_mm512_broadcast_f64x4
#define _mm512_castpd_ps simde_mm512_castpd_ps
#define _mm512_castps512_ps256 simde_mm512_castps512_ps256
#define _mm512_castps_pd simde_mm512_castps_pd
#define _mm512_castps_si512 simde_mm512_castps_si512
#define _mm512_castsi512_ps simde_mm512_castsi512_ps
#undef _mm512_cmp_ps_mask
#define _mm512_cmp_ps_mask simde_mm512_cmp_ps_mask
#define _mm512_cvtepi32_epi8 pairscore_mm512_cvtepi32_epi8
#define _mm512_cvtepi8_epi16 simde_mm512_cvtepi8_epi16
#define _mm512_cvtepi32_ps simde_mm512_cvtepi32_ps
#define _mm512_cvtps_epi32 simde_mm512_cvtps_epi32
#define _mm512_cvtsepi32_epi8 simde_mm512_cvtsepi32_epi8
#define _mm512_div_ps simde_mm512_div_ps
#define _mm512_dpbusd_epi32 simde_mm512_dpbusd_epi32
#define _mm512_dpwssd_epi32 simde_mm512_dpwssd_epi32
#undef _mm512_extractf64x4_pd
#define _mm512_extractf64x4_pd simde_mm512_extractf64x4_pd
#define _mm512_fmadd_ps simde_mm512_fmadd_ps
#define _mm512_load_si512 simde_mm512_load_si512
#define _mm512_loadu_ps simde_mm512_loadu_ps
#define _mm512_loadu_si512 simde_mm512_loadu_si512
#define _mm512_madd_epi16 simde_mm512_madd_epi16
#define _mm512_maddubs_epi16 simde_mm512_maddubs_epi16
#define _mm512_maskz_mov_ps simde_mm512_maskz_mov_ps
#define _mm512_max_epi32 simde_mm512_max_epi32
#define _mm512_max_epu32 simde_mm512_max_epu32
#define _mm512_max_ps simde_mm512_max_ps
#define _mm512_min_epi32 simde_mm512_min_epi32
#define _mm512_min_ps simde_mm512_min_ps
#define _mm512_mul_ps simde_mm512_mul_ps
#define _mm512_or_si512 simde_mm512_or_si512
#define _mm512_packs_epi32 simde_mm512_packs_epi32
#define _mm512_packus_epi16 simde_mm512_packus_epi16
#define _mm512_permutex2var_epi16 simde_mm512_permutex2var_epi16
#define _mm512_permutexvar_epi32 simde_mm512_permutexvar_epi32
#define _mm512_permutexvar_ps simde_mm512_permutexvar_ps
#define _mm512_set1_epi32 simde_mm512_set1_epi32
#define _mm512_set1_ps simde_mm512_set1_ps
#define _mm512_setr_epi32 simde_mm512_setr_epi32
#define _mm512_setzero_si512 simde_mm512_setzero_si512
#undef _mm512_slli_epi32
#define _mm512_slli_epi32 simde_mm512_slli_epi32
#define _mm512_store_si512 simde_mm512_store_si512
#define _mm512_storeu_si512 simde_mm512_storeu_si512
#define _mm512_storeu_ps simde_mm512_storeu_ps
#define _mm512_sub_epi32 simde_mm512_sub_epi32
#define _mm512_sub_ps simde_mm512_sub_ps

// The same instructions in another encoding.
#define _mm256_dpbusd_avx_epi32 simde_mm256_dpbusd_epi32
#define _mm256_dpwssd_avx_epi32 simde_mm256_dpwssd_epi32

// SIMDe 0.8.2 has none: the low byte of each of the sixteen lanes.
static inline __m128i pairscore_mm512_cvtepi32_epi8(simde__m512i a) {
  alignas(64) int lanes[16];
  unsigned char bytes[16];
  simde_mm512_store_si512(lanes, a);
  for (int i = 0; i < 16; i++) bytes[i] = static_cast<unsigned char>(lanes[i]);
  return _mm_loadu_si128(reinterpret_cast<const __m128i*>(bytes));
}

// AMX, as the manual's pseudocode has it. A thread has its own tiles.
struct PairscoreTiles {
  unsigned char head[16];
  unsigned short row_bytes[16];
  unsigned char rows[16];
  unsigned char values[8][16][64];
};
static thread_local PairscoreTiles pairscore_tiles;

static inline void pairscore_tile_loadconfig(const void* shapes) {
  pairscore_tiles = PairscoreTiles();
  __builtin_memcpy(&pairscore_tiles, shapes, 64);
}
static inline void pairscore_tile_zero(int tile) {
  __builtin_memset(pairscore_tiles.values[tile], 0, sizeof pairscore_tiles.values[tile]);
}
static inline void pairscore_tile_loadd(int tile, const void* from, long stride) {
  pairscore_tile_zero(tile);
  for (int row = 0; row < pairscore_tiles.rows[tile]; row++)
    __builtin_memcpy(pairscore_tiles.values[tile][row], static_cast<const char*>(from) + row * stride,
                     pairscore_tiles.row_bytes[tile]);
}
static inline void pairscore_tile_stored(int tile, void* to, long stride) {
  for (int row = 0; row < pairscore_tiles.rows[tile]; row++)
    __builtin_memcpy(static_cast<char*>(to) + row * stride, pairscore_tiles.values[tile][row],
                     pairscore_tiles.row_bytes[tile]);
}
static inline void pairscore_tile_dpbusd(int sums, int left, int right) {
  const PairscoreTiles& tiles = pairscore_tiles;
  for (int row = 0; row < tiles.rows[sums]; row++)
    for (int column = 0; column < tiles.row_bytes[sums] / 4; column++) {
      int sum;
      __builtin_memcpy(&sum, tiles.values[sums][row] + 4 * column, 4);
      for (int word = 0; word < tiles.row_bytes[left] / 4; word++)
        for (int i = 0; i < 4; i++)
          sum += tiles.values[left][row][4 * word + i] *
                 static_cast<signed char>(tiles.values[right][word][4 * column + i]);
      __builtin_memcpy(pairscore_tiles.values[sums][row] + 4 * column, &sum, 4);
    }
}

#undef _tile_loadconfig
#define _tile_loadconfig pairscore_tile_loadconfig
#undef _tile_release
#define _tile_release() pairscore_tiles = PairscoreTiles()
#undef _tile_zero
#define _tile_zero pairscore_tile_zero
#undef _tile_loadd
#define _tile_loadd pairscore_tile_loadd
#undef _tile_stored
#define _tile_stored pairscore_tile_stored
#undef _tile_dpbusd
#define _tile_dpbusd pairscore_tile_dpbusd
