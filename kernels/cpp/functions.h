// Exponential and activation functions on sixteen lanes, from fused multiply-adds and exact division alone.
//
// The polynomials were fitted for these files: weighted least squares on Chebyshev points, reweighted until the
// largest error was even (Lawson's method).
#pragma once

#include "kernels.h"

namespace pairscore {
namespace PAIRSCORE_ISA {
namespace {

// e^x within 2 units in the last place, for x clamped to where the result is a normal number.
// x = n ln 2 + r with |r| <= ln 2 / 2; ln 2 comes in two floats, so that r is exact to the last place.
INLINE F16 exponential(F16 x) {
  x = max(min(x, splat(88.0f)), splat(-87.0f));
  I16 n = nearest(x * splat(1.44269504089f));
  F16 whole = to_float(n);
  F16 r = fma(whole, splat(-0.693147182465f), x);
  r = fma(whole, splat(1.90465429995e-9f), r);
  F16 p = splat(1.381432047e-3f);
  p = fma(p, r, splat(8.368851075e-3f));
  p = fma(p, r, splat(4.166840109e-2f));
  p = fma(p, r, splat(1.666651952e-1f));
  p = fma(p, r, splat(4.999999337e-1f));
  p = fma(p, r, splat(1.0f));
  p = fma(p, r, splat(1.0f));
  return times_power_of_two(p, n);
}

// 2^x within 4e-6 of itself; exactly 0 below 2^-125. x is at most 127.
INLINE F16 power_of_two(F16 x) {
  I16 n = nearest(x);
  F16 r = x - to_float(n);
  F16 p = splat(9.570102207e-3f);
  p = fma(p, r, splat(5.591785908e-2f));
  p = fma(p, r, splat(2.402474433e-1f));
  p = fma(p, r, splat(6.931217909e-1f));
  p = fma(p, r, splat(9.999992847e-1f));
  return where_greater(x, splat(-125.0f), times_power_of_two(p, n));
}

// x times the normal distribution function of x, within 1e-6. The function minus 1/2 is odd: x P(x^2) / Q(x^2).
// Fitted up to |x| = 5.5, where it is made to reach 1/2, so that all beyond becomes exactly x or 0.
INLINE F16 gelu(F16 x) {
  F16 clamped = max(min(x, splat(5.5f)), splat(-5.5f));
  F16 z = clamped * clamped;
  F16 p = splat(2.274146959e-8f);
  p = fma(p, z, splat(6.522920508e-6f));
  p = fma(p, z, splat(1.785601640e-4f));
  p = fma(p, z, splat(4.736938530e-3f));
  p = fma(p, z, splat(3.470205650e-2f));
  p = fma(p, z, splat(3.989420335e-1f));
  F16 q = splat(1.209830073e-6f);
  q = fma(q, z, splat(7.732492165e-5f));
  q = fma(q, z, splat(1.938600421e-3f));
  q = fma(q, z, splat(2.915236363e-2f));
  q = fma(q, z, splat(2.536492034e-1f));
  q = fma(q, z, splat(1.0f));
  F16 half = splat(0.5f);
  F16 odd = max(min(clamped * p / q, half), splat(-0.5f));
  return fma(x, odd, x * half);
}

// x / 2 (1 + tanh u) is x / (1 + e^-2u), where u = sqrt(2 / pi) (x + 0.044715 x^3).
INLINE F16 gelu_tanh(F16 x) {
  F16 cubic = fma(x * x, splat(-0.0713548162726f), splat(-1.59576912161f));  // -2 u / x
  return x / (splat(1.0f) + exponential(x * cubic));
}

INLINE F16 hyperbolic_tangent(F16 x) {
  F16 e = exponential(x * splat(-2.0f));
  return (splat(1.0f) - e) / (splat(1.0f) + e);
}

template <Activation kActivation>
INLINE F16 activated(F16 x) {
  switch (kActivation) {
    case Activation::none: return x;
    case Activation::relu: return max(x, splat(0.0f));
    case Activation::gelu: return gelu(x);
    case Activation::gelu_tanh: return gelu_tanh(x);
    case Activation::tanh: return hyperbolic_tangent(x);
  }
  return x;
}

// An activation as a type.
template <Activation kActivation>
struct Chosen {
  static constexpr Activation value = kActivation;
};

// run(Chosen<activation>()): an activation that is known at run time, for functions that are compiled for each.
template <class Run>
INLINE void with(Activation activation, Run run) {
  switch (activation) {
    case Activation::none: return run(Chosen<Activation::none>());
    case Activation::relu: return run(Chosen<Activation::relu>());
    case Activation::gelu: return run(Chosen<Activation::gelu>());
    case Activation::gelu_tanh: return run(Chosen<Activation::gelu_tanh>());
    case Activation::tanh: return run(Chosen<Activation::tanh>());
  }
}

}  // namespace
}  // namespace PAIRSCORE_ISA
}  // namespace pairscore
