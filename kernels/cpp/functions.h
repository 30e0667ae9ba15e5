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

// 2^x within 4e-6 of itself, for x from -126 to 127.
INLINE F16 power_of_two(F16 x) {
  I16 n = nearest(x);
  F16 r = x - to_float(n);
  F16 p = splat(9.570102207e-3f);
  p = fma(p, r, splat(5.591785908e-2f));
  p = fma(p, r, splat(2.402474433e-1f));
  p = fma(p, r, splat(6.931217909e-1f));
  p = fma(p, r, splat(9.999992847e-1f));
  return times_power_of_two(p, n);
}

// The coefficients of gelu(), the highest power first, for each of the eight pieces.
alignas(kAlignment) const float kGeluPieces[6][8] = {
    {-1.795906806e-03f, -4.012975842e-03f, -4.727370833e-05f, 1.447901945e-03f, 1.977957872e-04f, -1.437306346e-04f,
     -4.530869774e-05f, -5.219293598e-06f},
    {1.765635796e-02f, 2.489312552e-03f, -8.933820762e-03f, -3.225205000e-03f, 8.606272168e-04f, 5.859892699e-04f,
     1.079032008e-04f, 9.292527466e-06f},
    {-2.517979883e-04f, 4.539525509e-02f, 2.446820959e-02f, -2.655785996e-03f, -4.873748403e-03f, -1.358981128e-03f,
     -1.707454503e-04f, -1.120134039e-05f},
    {-1.997260749e-01f, -1.165865064e-01f, 7.979751535e-05f, 2.630579472e-02f, 1.093973033e-02f, 2.009661635e-03f,
     1.945495169e-04f, 1.051126947e-05f},
    {3.538038433e-01f, 1.402547304e-02f, -9.121403843e-02f, -5.101294070e-02f, -1.290671807e-02f, -1.768365968e-03f,
     -1.383223280e-04f, -6.319743534e-06f},
    {8.519025485e-09f, 1.695390046e-01f, 1.110979021e-01f, 3.584186360e-02f, 6.578426342e-03f, 7.130848244e-04f,
     4.627354065e-05f, 1.808343995e-06f},
};

// x times the normal distribution function P of x, within 1e-6: the positive part of x less |x| P(-|x|), which is at most
// 0.17, and below 4e-7 from 5.3 on. That is a polynomial in the distance to the middle of the piece that |x| is in; adding
// 1.5 * 2^23 rounds to a whole number, the piece, and leaves it in the lowest bits.
INLINE F16 gelu(F16 x) {
  const F16 steps = splat(1.41320753f), magic = splat(12582912.0f);
  F16 distance = min(splat(5.3f), absolute(x));  // in this order, what is no number stays none
  F16 piece = fma(distance, steps, magic);
  F16 r = fma(distance, steps, magic - piece);
  I16 index = bits(piece);
  F16 p = look_up(kGeluPieces[0], index);
  PAIRSCORE_UNROLL
  for (std::size_t i = 1; i < 6; i++) p = fma(p, r, look_up(kGeluPieces[i], index));
  return max(x, splat(0.0f)) - p;
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
