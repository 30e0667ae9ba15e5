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

// The smallest and the largest of values, a lane each, and 0.
struct Bounds {
  F16 low = splat(0.0f), high = splat(0.0f);

  INLINE_MEMBER void include(F16 value) {
    low = min(value, low);
    high = max(value, high);
  }
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

// One row. prepared: room for what is rounded, where that is not the row itself.
template <std::size_t kOrder, bool kSmooth>
INLINE void quantize_row(const float* x, std::size_t inputs, std::size_t group_size, const float* smooth,
                         float* prepared, Value* out, float* scales, float* zero_points) {
  const float* rounded = kOrder > 1 || kSmooth ? prepared : x;
  for (std::size_t first = 0; first < inputs; first += group_size) {
    const std::size_t end = first + group_size;
    Bounds bounds;
    if constexpr (kOrder > 1) {
      for (std::size_t i = first; i < end; i += kOrder * kLanes)
        rotate_block<kOrder, kSmooth>(x + i, kSmooth ? smooth + i : nullptr, prepared + i, &bounds);
    } else {
      for (std::size_t i = first; i < end; i += kLanes) {
        F16 value = kSmooth ? load(x + i) * load(smooth + i) : load(x + i);
        bounds.include(value);
        if (kSmooth) store(prepared + i, value);
      }
    }
    const Steps by = steps(bounds.low, bounds.high);
    const F16 inverse = splat(by.inverse), zero = splat(by.zero);
    auto value = [&](std::size_t i) INLINE_LAMBDA { return nearest(fma(load(rounded + i), inverse, zero)); };
    std::size_t i = first;
    for (; i + 4 * kLanes <= end; i += 4 * kLanes)
      store_clamped(out + i, value(i), value(i + kLanes), value(i + 2 * kLanes), value(i + 3 * kLanes));
    for (; i < end; i += kLanes) store_clamped(out + i, value(i));
    *scales++ = by.scale;
    *zero_points++ = by.zero;
  }
}

template <std::size_t kOrder, bool kSmooth>
NOINLINE void quantize_with(const float* rows, std::size_t stride, std::size_t count, std::size_t inputs,
                            std::size_t group_size, const float* smooth, const QuantizedRows& quantized) {
  const std::size_t groups = inputs / group_size;
  for (std::size_t row = 0; row < count; row++)
    quantize_row<kOrder, kSmooth>(rows + row * stride, inputs, group_size, smooth, quantized.prepared,
                                  reinterpret_cast<Value*>(quantized.values + row * quantized.row_bytes),
                                  quantized.scales + row * groups, quantized.zero_points + row * groups);
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
