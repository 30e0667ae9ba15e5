// Sixteen lanes in plain C++: the meaning of every operation that the other vector_*.h files spell in intrinsics.
//
// Each function of this file has a namesake there, and both give the same bytes: that is all it takes for the
// operations, which are written once over these functions, to give the same bytes on every instruction set.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "compiler.h"
#include "kernels.h"

namespace pairscore {
namespace PAIRSCORE_ISA {
namespace {

struct F16 {
  float lane[kLanes];
};
struct I16 {
  std::int32_t lane[kLanes];
};

#define PAIRSCORE_LANES(expression)                    \
  for (std::size_t i = 0; i < kLanes; i++) result.lane[i] = (expression); \
  return result

INLINE F16 splat(float value) { F16 result; PAIRSCORE_LANES(value); }
INLINE I16 splat(std::int32_t value) { I16 result; PAIRSCORE_LANES(value); }
INLINE F16 load(const float* from) { F16 result; PAIRSCORE_LANES(from[i]); }
INLINE I16 load(const std::int32_t* from) { I16 result; PAIRSCORE_LANES(from[i]); }
// The sums of a row of a tile: of sixteen columns, from the registers that hold them.
INLINE I16 gathered(const I16* sums) { return *sums; }
INLINE void store(float* to, F16 a) { std::memcpy(to, a.lane, sizeof a.lane); }
INLINE void store(std::int32_t* to, I16 a) { std::memcpy(to, a.lane, sizeof a.lane); }
// Holds both in registers; see KEEP.
INLINE void keep(F16&, F16) {}
INLINE void keep(I16&, I16) {}

INLINE F16 operator+(F16 a, F16 b) { F16 result; PAIRSCORE_LANES(a.lane[i] + b.lane[i]); }
INLINE F16 operator-(F16 a, F16 b) { F16 result; PAIRSCORE_LANES(a.lane[i] - b.lane[i]); }
INLINE F16 operator*(F16 a, F16 b) { F16 result; PAIRSCORE_LANES(a.lane[i] * b.lane[i]); }
INLINE F16 operator/(F16 a, F16 b) { F16 result; PAIRSCORE_LANES(a.lane[i] / b.lane[i]); }
// a * b + c, rounded once.
INLINE F16 fma(F16 a, F16 b, F16 c) { F16 result; PAIRSCORE_LANES(std::fma(a.lane[i], b.lane[i], c.lane[i])); }
// The second argument where either is not a number, as x86 does.
INLINE F16 min(F16 a, F16 b) { F16 result; PAIRSCORE_LANES(a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]); }
INLINE F16 max(F16 a, F16 b) { F16 result; PAIRSCORE_LANES(a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]); }
INLINE F16 absolute(F16 a) { F16 result; PAIRSCORE_LANES(std::fabs(a.lane[i])); }
// c where a > b, else 0.
INLINE F16 where_greater(F16 a, F16 b, F16 c) { F16 result; PAIRSCORE_LANES(a.lane[i] > b.lane[i] ? c.lane[i] : 0.0f); }

INLINE I16 operator+(I16 a, I16 b) { I16 result; PAIRSCORE_LANES(a.lane[i] + b.lane[i]); }
INLINE I16 operator-(I16 a, I16 b) { I16 result; PAIRSCORE_LANES(a.lane[i] - b.lane[i]); }

// To the nearest integer, halves to even; the smallest integer where none fits, as x86 does.
INLINE std::int32_t nearest(float a) {
  if (!(a > -2147483648.0f && a < 2147483648.0f)) return std::numeric_limits<std::int32_t>::min();
  return static_cast<std::int32_t>(std::nearbyint(a));
}
INLINE I16 nearest(F16 a) { I16 result; PAIRSCORE_LANES(nearest(a.lane[i])); }
// The bits of each lane.
INLINE I16 bits(F16 a) {
  I16 result;
  std::memcpy(result.lane, a.lane, sizeof a.lane);
  return result;
}
INLINE F16 of_bits(I16 a) {
  F16 result;
  std::memcpy(result.lane, a.lane, sizeof a.lane);
  return result;
}
INLINE I16 max(I16 a, I16 b) { I16 result; PAIRSCORE_LANES(a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]); }
INLINE I16 max_unsigned(I16 a, I16 b) {
  I16 result;
  PAIRSCORE_LANES(static_cast<std::uint32_t>(a.lane[i]) > static_cast<std::uint32_t>(b.lane[i]) ? a.lane[i] : b.lane[i]);
}
// Two rows of whole numbers below 2^15 as words of two halves, in an order that dot_pairs knows.
INLINE I16 pairs(I16 a, I16 b) {
  I16 result;
  PAIRSCORE_LANES(static_cast<std::int32_t>((static_cast<std::uint32_t>(b.lane[i]) << 16) |
                                            (static_cast<std::uint32_t>(a.lane[i]) & 0xFFFF)));
}
INLINE std::int32_t low_half(std::int32_t word) { return static_cast<std::int16_t>(word & 0xFFFF); }
INLINE std::int32_t high_half(std::int32_t word) {
  return low_half(static_cast<std::int32_t>(static_cast<std::uint32_t>(word) >> 16));
}
// sum + the lower half of `two` times that of `values` + the upper half times the upper.
INLINE I16 dot_pairs(I16 sum, I16 two, I16 values) {
  I16 result;
  PAIRSCORE_LANES(sum.lane[i] + low_half(two.lane[i]) * low_half(values.lane[i]) +
                  high_half(two.lane[i]) * high_half(values.lane[i]));
}
// The lower halves of the lanes of a, then of b, side by side.
INLINE I16 low_halves(I16 a, I16 b) {
  std::int16_t halves[2 * kLanes];
  for (std::size_t i = 0; i < kLanes; i++) {
    halves[i] = static_cast<std::int16_t>(low_half(a.lane[i]));
    halves[kLanes + i] = static_cast<std::int16_t>(low_half(b.lane[i]));
  }
  I16 result;
  std::memcpy(result.lane, halves, sizeof halves);
  return result;
}
// Of eight entries, the one that the last three bits of each lane name.
INLINE F16 look_up(const float* table, I16 index) { F16 result; PAIRSCORE_LANES(table[index.lane[i] & 7]); }
INLINE F16 to_float(I16 a) { F16 result; PAIRSCORE_LANES(static_cast<float>(a.lane[i])); }

// a * 2^n by its exponent bits; the result must be a normal number.
INLINE float times_power_of_two(float a, std::int32_t n) {
  std::uint32_t bits;
  std::memcpy(&bits, &a, sizeof bits);
  bits += static_cast<std::uint32_t>(n) << 23;
  std::memcpy(&a, &bits, sizeof bits);
  return a;
}
INLINE F16 times_power_of_two(F16 a, I16 n) { F16 result; PAIRSCORE_LANES(times_power_of_two(a.lane[i], n.lane[i])); }

#undef PAIRSCORE_LANES

// Lane i with lane i + 8, then + 4, + 2, + 1: the order in which registers are halved.
template <class Combine>
INLINE float reduce(F16 a, Combine combine) {
  for (std::size_t half = kLanes / 2; half > 0; half /= 2)
    for (std::size_t i = 0; i < half; i++) a.lane[i] = combine(a.lane[i], a.lane[i + half]);
  return a.lane[0];
}
INLINE float sum(F16 a) { return reduce(a, [](float x, float y) { return x + y; }); }
INLINE float smallest(F16 a) { return reduce(a, [](float x, float y) { return x < y ? x : y; }); }
INLINE float largest(F16 a) { return reduce(a, [](float x, float y) { return x > y ? x : y; }); }

INLINE float square_root(float x) { return std::sqrt(x); }

// Word j of row i becomes word i of row j, for four rows of four words; both start `stride` bytes after one another.
INLINE void transpose(const void* from, std::size_t stride, void* to, std::size_t to_stride) {
  for (std::size_t i = 0; i < 4; i++)
    for (std::size_t j = 0; j < 4; j++)
      std::memcpy(static_cast<char*>(to) + j * to_stride + i * 4, static_cast<const char*>(from) + i * stride + j * 4, 4);
}

// The lanes, clamped to 0 ... 255, as bytes.
INLINE void store_clamped(std::uint8_t* to, I16 a) {
  for (std::size_t i = 0; i < kLanes; i++)
    to[i] = static_cast<std::uint8_t>(a.lane[i] < 0 ? 0 : a.lane[i] > 255 ? 255 : a.lane[i]);
}
INLINE void store_clamped(std::uint8_t* to, I16 a, I16 b, I16 c, I16 d) {
  store_clamped(to, a);
  store_clamped(to + kLanes, b);
  store_clamped(to + 2 * kLanes, c);
  store_clamped(to + 3 * kLanes, d);
}
// The lanes, clamped to -128 ... 127, as signed bytes.
INLINE void store_clamped(std::int8_t* to, I16 a) {
  for (std::size_t i = 0; i < kLanes; i++)
    to[i] = static_cast<std::int8_t>(a.lane[i] < -128 ? -128 : a.lane[i] > 127 ? 127 : a.lane[i]);
}

}  // namespace
}  // namespace PAIRSCORE_ISA
}  // namespace pairscore
