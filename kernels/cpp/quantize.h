// Float rows to 8-bit values.
#pragma once

#include "functions.h"
#include "kernels.h"

namespace pairscore {
namespace PAIRSCORE_ISA {
namespace {

// How a group of values becomes bytes.
struct Steps {
  float scale, inverse;
  std::int32_t zero;
};

// low and high: the smallest and the largest value of each lane, and 0.
INLINE Steps steps(F16 low, F16 high) {
  float lowest = smallest(low);
  float scale = (largest(high) - lowest) / 255.0f;
  if (scale == 0.0f) scale = 1.0f;
  float inverse = 1.0f / scale;
  std::int32_t zero = nearest(-lowest * inverse);
  return {scale, inverse, zero < 0 ? 0 : zero > 255 ? 255 : zero};
}

INLINE I16 rounded(F16 value, const Steps& by) { return nearest(value * splat(by.inverse)) + splat(by.zero); }

template <bool kSmooth>
void quantize_with(const float* rows, std::size_t stride, std::size_t count, std::size_t inputs,
                   std::size_t group_size, const float* smooth, const QuantizedRows& quantized) {
  std::size_t groups = inputs / group_size;
  for (std::size_t row = 0; row < count; row++) {
    const float* x = rows + row * stride;
    Value* out = reinterpret_cast<Value*>(quantized.values + row * quantized.row_bytes);
    for (std::size_t group = 0; group < groups; group++) {
      std::size_t first = group * group_size, end = first + group_size;
      F16 low = splat(0.0f), high = splat(0.0f);
      for (std::size_t i = first; i < end; i += kLanes) {
        F16 value = kSmooth ? load(x + i) * load(smooth + i) : load(x + i);
        low = min(value, low);
        high = max(value, high);
      }
      Steps by = steps(low, high);
      for (std::size_t i = first; i < end; i += kLanes)
        store_clamped(out + i, rounded(kSmooth ? load(x + i) * load(smooth + i) : load(x + i), by));
      quantized.scales[row * groups + group] = by.scale;
      quantized.zero_points[row * groups + group] = static_cast<float>(by.zero);
    }
  }
}

void quantize(const float* rows, std::size_t stride, std::size_t count, std::size_t inputs, std::size_t group_size,
              const float* smooth, const QuantizedRows& quantized) {
  if (smooth) return quantize_with<true>(rows, stride, count, inputs, group_size, smooth, quantized);
  quantize_with<false>(rows, stride, count, inputs, group_size, smooth, quantized);
}

template <Activation kActivation>
void quantize_gated_with(float* rows, std::size_t stride, std::size_t count, std::size_t inputs,
                         std::size_t group_size, const float* smooth, const QuantizedRows& quantized) {
  std::size_t groups = inputs / group_size;
  for (std::size_t row = 0; row < count; row++) {
    float* x = rows + row * stride;
    Value* out = reinterpret_cast<Value*>(quantized.values + row * quantized.row_bytes);
    for (std::size_t group = 0; group < groups; group++) {
      std::size_t first = group * group_size, end = first + group_size;
      F16 low = splat(0.0f), high = splat(0.0f);
      for (std::size_t i = first; i < end; i += kLanes) {
        F16 value = activated<kActivation>(load(x + i)) * load(x + inputs + i);
        if (smooth) value = value * load(smooth + i);
        store(x + i, value);
        low = min(value, low);
        high = max(value, high);
      }
      Steps by = steps(low, high);
      for (std::size_t i = first; i < end; i += kLanes) store_clamped(out + i, rounded(load(x + i), by));
      quantized.scales[row * groups + group] = by.scale;
      quantized.zero_points[row * groups + group] = static_cast<float>(by.zero);
    }
  }
}

void quantize_gated(Activation activation, float* rows, std::size_t stride, std::size_t count, std::size_t inputs,
                    std::size_t group_size, const float* smooth, const QuantizedRows& quantized) {
  with(activation, [&](auto chosen) {
    quantize_gated_with<chosen.value>(rows, stride, count, inputs, group_size, smooth, quantized);
  });
}

}  // namespace
}  // namespace PAIRSCORE_ISA
}  // namespace pairscore
