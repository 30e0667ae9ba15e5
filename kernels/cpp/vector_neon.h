// Sixteen lanes as four Arm registers. See vector_portable.h for what each function means.
#pragma once

#include <arm_neon.h>

#include <cstdint>
#include <cstring>

#include "compiler.h"
#include "kernels.h"

namespace pairscore {
namespace PAIRSCORE_ISA {
namespace {

struct F16 {
  float32x4_t part[4];
};
struct I16 {
  int32x4_t part[4];
};

#define PAIRSCORE_PARTS(Vector, expression)                        \
  Vector result;                                                   \
  PAIRSCORE_UNROLL                                                 \
  for (int i = 0; i < 4; i++) result.part[i] = (expression);       \
  return result

INLINE F16 splat(float value) { PAIRSCORE_PARTS(F16, vdupq_n_f32(value)); }
INLINE I16 splat(std::int32_t value) { PAIRSCORE_PARTS(I16, vdupq_n_s32(value)); }
INLINE F16 load(const float* from) { PAIRSCORE_PARTS(F16, vld1q_f32(from + 4 * i)); }
INLINE I16 load(const std::int32_t* from) { PAIRSCORE_PARTS(I16, vld1q_s32(from + 4 * i)); }
INLINE I16 gathered(const int32x4_t* sums) { return {{sums[0], sums[1], sums[2], sums[3]}}; }
INLINE void store(float* to, F16 a) {
  PAIRSCORE_UNROLL
  for (int i = 0; i < 4; i++) vst1q_f32(to + 4 * i, a.part[i]);
}
INLINE void store(std::int32_t* to, I16 a) {
  PAIRSCORE_UNROLL
  for (int i = 0; i < 4; i++) vst1q_s32(to + 4 * i, a.part[i]);
}
INLINE void keep(F16& sum, F16 factor) {
  PAIRSCORE_UNROLL
  for (int i = 0; i < 4; i++) KEEP(sum.part[i], factor.part[0]);
}
INLINE void keep(I16& sum, I16 factor) {
  PAIRSCORE_UNROLL
  for (int i = 0; i < 4; i++) KEEP(sum.part[i], factor.part[0]);
}

INLINE F16 operator+(F16 a, F16 b) { PAIRSCORE_PARTS(F16, vaddq_f32(a.part[i], b.part[i])); }
INLINE F16 operator-(F16 a, F16 b) { PAIRSCORE_PARTS(F16, vsubq_f32(a.part[i], b.part[i])); }
INLINE F16 operator*(F16 a, F16 b) { PAIRSCORE_PARTS(F16, vmulq_f32(a.part[i], b.part[i])); }
INLINE F16 operator/(F16 a, F16 b) { PAIRSCORE_PARTS(F16, vdivq_f32(a.part[i], b.part[i])); }
INLINE F16 fma(F16 a, F16 b, F16 c) { PAIRSCORE_PARTS(F16, vfmaq_f32(c.part[i], a.part[i], b.part[i])); }
// By comparison: Arm's own minimum is not a number where either is none.
INLINE float32x4_t least(float32x4_t a, float32x4_t b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
INLINE float32x4_t most(float32x4_t a, float32x4_t b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
INLINE F16 min(F16 a, F16 b) { PAIRSCORE_PARTS(F16, least(a.part[i], b.part[i])); }
INLINE F16 max(F16 a, F16 b) { PAIRSCORE_PARTS(F16, most(a.part[i], b.part[i])); }
INLINE F16 absolute(F16 a) { PAIRSCORE_PARTS(F16, vabsq_f32(a.part[i])); }
INLINE F16 where_greater(F16 a, F16 b, F16 c) {
  PAIRSCORE_PARTS(F16, vbslq_f32(vcgtq_f32(a.part[i], b.part[i]), c.part[i], vdupq_n_f32(0.0f)));
}

INLINE I16 operator+(I16 a, I16 b) { PAIRSCORE_PARTS(I16, vaddq_s32(a.part[i], b.part[i])); }
INLINE I16 operator-(I16 a, I16 b) { PAIRSCORE_PARTS(I16, vsubq_s32(a.part[i], b.part[i])); }

// The smallest integer where none fits, as x86 does; Arm's own conversion gives the closest one.
INLINE int32x4_t nearest(float32x4_t a) {
  uint32x4_t fits = vcaltq_f32(a, vdupq_n_f32(2147483648.0f));
  return vbslq_s32(fits, vcvtnq_s32_f32(a), vdupq_n_s32(INT32_MIN));
}
INLINE std::int32_t nearest(float a) { return vgetq_lane_s32(nearest(vdupq_n_f32(a)), 0); }
INLINE I16 nearest(F16 a) { PAIRSCORE_PARTS(I16, nearest(a.part[i])); }
INLINE I16 bits(F16 a) { PAIRSCORE_PARTS(I16, vreinterpretq_s32_f32(a.part[i])); }
INLINE F16 of_bits(I16 a) { PAIRSCORE_PARTS(F16, vreinterpretq_f32_s32(a.part[i])); }
INLINE I16 max(I16 a, I16 b) { PAIRSCORE_PARTS(I16, vmaxq_s32(a.part[i], b.part[i])); }
INLINE I16 max_unsigned(I16 a, I16 b) {
  PAIRSCORE_PARTS(I16, vreinterpretq_s32_u32(
                           vmaxq_u32(vreinterpretq_u32_s32(a.part[i]), vreinterpretq_u32_s32(b.part[i]))));
}
// The halves of four words lie in the two halves of a register: each is multiplied by one of `two`.
INLINE I16 pairs(I16 a, I16 b) {
  PAIRSCORE_PARTS(I16, vreinterpretq_s32_s16(vcombine_s16(vmovn_s32(a.part[i]), vmovn_s32(b.part[i]))));
}
INLINE int32x4_t dot_pairs(int32x4_t sum, int16x4_t two, int16x8_t values) {
  return vmlal_lane_s16(vmlal_lane_s16(sum, vget_low_s16(values), two, 0), vget_high_s16(values), two, 1);
}
INLINE I16 dot_pairs(I16 sum, I16 two, I16 values) {
  const int16x4_t halves = vget_low_s16(vreinterpretq_s16_s32(two.part[0]));
  PAIRSCORE_PARTS(I16, dot_pairs(sum.part[i], halves, vreinterpretq_s16_s32(values.part[i])));
}
INLINE int32x4_t low_halves(int32x4_t a, int32x4_t b) {
  return vreinterpretq_s32_s16(vcombine_s16(vmovn_s32(a), vmovn_s32(b)));
}
INLINE I16 low_halves(I16 a, I16 b) {
  return {{low_halves(a.part[0], a.part[1]), low_halves(a.part[2], a.part[3]), low_halves(b.part[0], b.part[1]),
           low_halves(b.part[2], b.part[3])}};
}
// By the four bytes of each entry: 4 * index + 0, 1, 2 and 3.
INLINE float32x4_t look_up(uint8x16x2_t table, int32x4_t index) {
  const int32x4_t first = vmulq_n_s32(vandq_s32(index, vdupq_n_s32(7)), 0x04040404);
  const int32x4_t places = vaddq_s32(first, vdupq_n_s32(0x03020100));
  return vreinterpretq_f32_u8(vqtbl2q_u8(table, vreinterpretq_u8_s32(places)));
}
INLINE F16 look_up(const float* table, I16 index) {
  const uint8x16x2_t eight{{vreinterpretq_u8_f32(vld1q_f32(table)), vreinterpretq_u8_f32(vld1q_f32(table + 4))}};
  PAIRSCORE_PARTS(F16, look_up(eight, index.part[i]));
}
INLINE F16 to_float(I16 a) { PAIRSCORE_PARTS(F16, vcvtq_f32_s32(a.part[i])); }
INLINE F16 times_power_of_two(F16 a, I16 n) {
  PAIRSCORE_PARTS(F16, vreinterpretq_f32_s32(vaddq_s32(vreinterpretq_s32_f32(a.part[i]), vshlq_n_s32(n.part[i], 23))));
}

#undef PAIRSCORE_PARTS

INLINE float32x4_t plus(float32x4_t a, float32x4_t b) { return vaddq_f32(a, b); }

// Lane i with lane i + 8, then + 4, + 2, + 1.
#define PAIRSCORE_REDUCE(name, combine)                                                        \
  INLINE float name(F16 a) {                                                                   \
    float32x4_t four = combine(combine(a.part[0], a.part[2]), combine(a.part[1], a.part[3]));  \
    float32x4_t two = combine(four, vextq_f32(four, four, 2));                                 \
    return vgetq_lane_f32(combine(two, vextq_f32(two, two, 1)), 0);                            \
  }
PAIRSCORE_REDUCE(sum, plus)
PAIRSCORE_REDUCE(smallest, least)
PAIRSCORE_REDUCE(largest, most)
#undef PAIRSCORE_REDUCE

// Four words of four rows: a load that deals words out to four registers reads columns where rows stand.
INLINE void transpose(const void* from, std::size_t stride, void* to, std::size_t to_stride) {
  std::uint32_t rows[16];
  PAIRSCORE_UNROLL
  for (std::size_t i = 0; i < 4; i++) std::memcpy(rows + 4 * i, static_cast<const char*>(from) + i * stride, 16);
  uint32x4x4_t columns = vld4q_u32(rows);
  PAIRSCORE_UNROLL
  for (std::size_t j = 0; j < 4; j++)
    vst1q_u8(static_cast<std::uint8_t*>(to) + j * to_stride, vreinterpretq_u8_u32(columns.val[j]));
}

INLINE void store_clamped(std::uint8_t* to, I16 a) {
  uint16x8_t low = vcombine_u16(vqmovun_s32(a.part[0]), vqmovun_s32(a.part[1]));
  uint16x8_t high = vcombine_u16(vqmovun_s32(a.part[2]), vqmovun_s32(a.part[3]));
  vst1q_u8(to, vcombine_u8(vqmovn_u16(low), vqmovn_u16(high)));
}
INLINE void store_clamped(std::uint8_t* to, I16 a, I16 b, I16 c, I16 d) {
  store_clamped(to, a);
  store_clamped(to + kLanes, b);
  store_clamped(to + 2 * kLanes, c);
  store_clamped(to + 3 * kLanes, d);
}
INLINE void store_clamped(std::int8_t* to, I16 a) {
  int16x8_t low = vcombine_s16(vqmovn_s32(a.part[0]), vqmovn_s32(a.part[1]));
  int16x8_t high = vcombine_s16(vqmovn_s32(a.part[2]), vqmovn_s32(a.part[3]));
  vst1q_s8(to, vcombine_s8(vqmovn_s16(low), vqmovn_s16(high)));
}

INLINE float square_root(float x) { return vget_lane_f32(vsqrt_f32(vdup_n_f32(x)), 0); }

}  // namespace
}  // namespace PAIRSCORE_ISA
}  // namespace pairscore
