// The few places where compilers differ.
#pragma once

#if defined(_MSC_VER) && !defined(__clang__)
#define INLINE_MEMBER __forceinline
#define NOINLINE_MEMBER __declspec(noinline)
#define INLINE_LAMBDA
#define PAIRSCORE_UNROLL
#else
#define INLINE_MEMBER inline __attribute__((always_inline))
#define INLINE_LAMBDA __attribute__((always_inline))
#define NOINLINE_MEMBER __attribute__((noinline))
#if defined(__clang__)
#define PAIRSCORE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define PAIRSCORE_UNROLL _Pragma("GCC unroll 32")
#endif
#endif

// Of a function; INLINE_MEMBER is for those of a class, INLINE_LAMBDA stands between the arguments of a lambda and its body.
#define INLINE static INLINE_MEMBER
#define NOINLINE static NOINLINE_MEMBER

// KEEP(sum, factor) holds two vectors in registers at this point of the program and moves no later work before it. GCC
// otherwise collects the loads of several rows first, runs out of registers and keeps the sums of the innermost loops
// in memory, at half of the speed. It costs no instruction; naming the factor keeps the sum from moving into the
// register that the factor leaves free. PAIRSCORE_REGISTER is the letter for a vector register in the compiler's inline
// assembly; without it (portable code, emulated intrinsics, MSVC) KEEP does nothing.
#if defined(PAIRSCORE_REGISTER)
#define KEEP(sum, factor) __asm__ volatile("" : "+" PAIRSCORE_REGISTER(sum) : PAIRSCORE_REGISTER(factor))
#else
#define KEEP(sum, factor) static_cast<void>(sum), static_cast<void>(factor)
#endif
