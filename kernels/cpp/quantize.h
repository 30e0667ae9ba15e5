// Float rows to 8-bit values, rotated by a Hadamard matrix where the layer's weights are.
#pragma once

#include "functions.h"
#include "kernels.h"

namespace pairscore {
namespace PAIRSCORE_ISA {
namespace {

// How a group of values becomes bytes.
struct Steps {
  float scale, inverse, zero;
};

// low and high: the smallest and the largest value of each lane, and 0.
INLINE Steps steps(F16 low, F16 high) {
  float lowest = smallest(low);
  float scale = (largest(high) - lowest) / 255.0f;
  if (scale == 0.0f) scale = 1.0f;
  float inverse = 1.0f / scale;
  std::int32_t zero = nearest(-lowest * inverse);
  return {scale, inverse, static_cast<float>(zero < 0 ? 0 : zero > 255 ? 255 : zero)};
}

// A fast Hadamard transform of kOrder vectors: sums and differences of neighbours, then of pairs of neighbours, and so on.
template <std::size_t kOrder>
INLINE void transform(F16* v) {
  PAIRSCORE_UNROLL
  for (std::size_t half = 1; half < kOrder; half *= 2) {
    PAIRSCORE_UNROLL
    for (std::size_t i = 0; i < kOrder; i++) {
      if (i & half) continue;
      F16 left = v[i], right = v[i + half];
      v[i] = left + right;
      v[i + half] = left - right;
    }
  }
}

// The smallest and the largest of values, a lane each, and 0. Found by their bits, for which processors have more units
// than for floats: as signed integers, positive floats are in order and above all others; as unsigned integers, negative
// floats are above all others, and the smallest is on top.
struct Bounds {
  I16 smallest = splat(0), largest = splat(0);

  INLINE_MEMBER void include(F16 value) {
    smallest = max_unsigned(bits(value), smallest);
    largest = max(bits(value), largest);
  }
  INLINE_MEMBER F16 low() const { return min(splat(0.0f), of_bits(smallest)); }
  INLINE_MEMBER F16 high() const { return of_bits(largest); }
};

// Transforms kOrder vectors that lie `step` floats after one another.
template <std::size_t kOrder, bool kSmooth>
INLINE void transform(const float* from, std::size_t step, const float* smooth, float* to, Bounds* bounds) {
  F16 v[kOrder];
  PAIRSCORE_UNROLL
  for (std::size_t i = 0; i < kOrder; i++)
    v[i] = kSmooth ? load(from + i * step) * load(smooth + i * step) : load(from + i * step);
  transform<kOrder>(v);
  PAIRSCORE_UNROLL
  for (std::size_t i = 0; i < kOrder; i++) {
    if (bounds) bounds->include(v[i]);
    store(to + i * step, v[i]);
  }
}

// A block of kOrder * 16 values, of which value b * 16 + lane is turned over b. At most eight vectors are in registers
// at once: sums of eight first, then sums of those.
template <std::size_t kOrder, bool kSmooth>
INLINE void rotate_block(const float* from, const float* smooth, float* to, Bounds* bounds) {
  if constexpr (kOrder <= 8) {
    transform<kOrder, kSmooth>(from, kLanes, smooth, to, bounds);
  } else {
    for (std::size_t i = 0; i < kOrder * kLanes; i += 8 * kLanes)
      transform<8, kSmooth>(from + i, kLanes, kSmooth ? smooth + i : nullptr, to + i, nullptr);
    for (std::size_t i = 0; i < 8 * kLanes; i += kLanes)
      transform<kOrder / 8, false>(to + i, 8 * kLanes, nullptr, to + i, bounds);
  }
}

// Smooths and rotates a group of values, and finds its bounds. Returns what is to be rounded: `prepared`, or the values
// themselves where nothing changes them.
template <std::size_t kOrder, bool kSmooth>
INLINE const float* prepare_group(const float* x, std::size_t size, const float* smooth, float* prepared,
                                  Bounds& bounds) {
  if constexpr (kOrder > 1) {
    for (std::size_t i = 0; i < size; i += kOrder * kLanes)
      rotate_block<kOrder, kSmooth>(x + i, kSmooth ? smooth + i : nullptr, prepared + i, &bounds);
  } else {
    for (std::size_t i = 0; i < size; i += kLanes) {
      F16 value = kSmooth ? load(x + i) * load(smooth + i) : load(x + i);
      bounds.include(value);
      if (kSmooth) store(prepared + i, value);
    }
  }
  return kOrder > 1 || kSmooth ? prepared : x;
}

INLINE void round_group(const float* x, std::size_t size, const Steps& by, Value* out) {
  const F16 inverse = splat(by.inverse), zero = splat(by.zero);
  auto value = [&](std::size_t i) INLINE_LAMBDA { return nearest(fma(load(x + i), inverse, zero)); };
  std::size_t i = 0;
  for (; i + 4 * kLanes <= size; i += 4 * kLanes)
    store_clamped(out + i, value(i), value(i + kLanes), value(i + 2 * kLanes), value(i + 3 * kLanes));
  for (; i < size; i += kLanes) store_clamped(out + i, value(i));
}

// Each step runs for several groups before the next begins: one by one, the processor would wait for the bounds of a
// group and for two divisions.
template <std::size_t kOrder, bool kSmooth>
NOINLINE void quantize_with(const float* rows, std::size_t stride, std::size_t count, std::size_t inputs,
                            std::size_t group_size, const float* smooth, const QuantizedRows& quantized) {
  const std::size_t groups = inputs / group_size;
  std::size_t row = 0, column = 0;
  for (std::size_t first = 0; first < count * groups; first += kGroupsAtOnce) {
    const std::size_t n = count * groups - first < kGroupsAtOnce ? count * groups - first : kGroupsAtOnce;
    const float* rounded[kGroupsAtOnce];
    Value* out[kGroupsAtOnce];
    Bounds bounds[kGroupsAtOnce];
    for (std::size_t k = 0; k < n; k++) {
      rounded[k] = prepare_group<kOrder, kSmooth>(rows + row * stride + column, group_size,
                                                  kSmooth ? smooth + column : nullptr,
                                                  quantized.prepared + k * group_size, bounds[k]);
      out[k] = reinterpret_cast<Value*>(quantized.values + row * quantized.row_bytes) + column;
      column += group_size;
      if (column == inputs) row++, column = 0;
    }
    Steps by[kGroupsAtOnce];
    for (std::size_t k = 0; k < n; k++) {
      by[k] = steps(bounds[k].low(), bounds[k].high());
      quantized.scales[first + k] = by[k].scale;
      quantized.zero_points[first + k] = by[k].zero;
    }
    for (std::size_t k = 0; k < n; k++) round_group(rounded[k], group_size, by[k], out[k]);
  }
}

template <std::size_t kOrder>
INLINE void quantize_rotated(const float* rows, std::size_t stride, std::size_t count, std::size_t inputs,
                             std::size_t group_size, const float* smooth, const QuantizedRows& quantized) {
  if (smooth) return quantize_with<kOrder, true>(rows, stride, count, inputs, group_size, smooth, quantized);
  quantize_with<kOrder, false>(rows, stride, count, inputs, group_size, smooth, quantized);
}

void quantize(const float* rows, std::size_t stride, std::size_t count, std::size_t inputs, std::size_t group_size,
              const float* smooth, std::size_t rotation, const QuantizedRows& quantized) {
  switch (rotation) {
    case 2: return quantize_rotated<2>(rows, stride, count, inputs, group_size, smooth, quantized);
    case 4: return quantize_rotated<4>(rows, stride, count, inputs, group_size, smooth, quantized);
    case 8: return quantize_rotated<8>(rows, stride, count, inputs, group_size, smooth, quantized);
    case 16: return quantize_rotated<16>(rows, stride, count, inputs, group_size, smooth, quantized);
    case 32: return quantize_rotated<32>(rows, stride, count, inputs, group_size, smooth, quantized);
    case 64: return quantize_rotated<64>(rows, stride, count, inputs, group_size, smooth, quantized);
    default: return quantize_rotated<1>(rows, stride, count, inputs, group_size, smooth, quantized);
  }
}

void quantize_gated(Activation activation, float* rows, std::size_t stride, std::size_t count, std::size_t inputs,
                    std::size_t group_size, const float* smooth, std::size_t rotation, const QuantizedRows& quantized) {
  with(activation, [&](auto chosen) {
    for (std::size_t row = 0; row < count; row++) {
      float* x = rows + row * stride;
      for (std::size_t i = 0; i < inputs; i += kLanes)
        store(x + i, activated<chosen.value>(load(x + i)) * load(x + inputs + i));
    }
  });
  quantize(rows, stride, count, inputs, group_size, smooth, rotation, quantized);
}

}  // namespace
}  // namespace PAIRSCORE_ISA
}  // namespace pairscore
