// The few places where compilers differ.
#pragma once

#if defined(_MSC_VER) && !defined(__clang__)
#define INLINE static __forceinline
#define PAIRSCORE_UNROLL
#else
#define INLINE static inline __attribute__((always_inline))
#if defined(__clang__)
#define PAIRSCORE_UNROLL _Pragma("clang loop unroll(full)")
#else
#define PAIRSCORE_UNROLL _Pragma("GCC unroll 32")
#endif
#endif

// KEEP(x) holds the vector x in a register at this point of the program and moves no later work before it. GCC
// otherwise collects the loads of several rows first, runs out of registers and keeps the sums of the innermost loops
// in memory, at half of the speed. It costs no instruction. PAIRSCORE_REGISTER is the letter for a vector register in
// the compiler's inline assembly; without it (portable code, emulated intrinsics, MSVC) KEEP does nothing.
#if defined(PAIRSCORE_REGISTER)
#define KEEP(x) __asm__ volatile("" : "+" PAIRSCORE_REGISTER(x))
#else
#define KEEP(x) static_cast<void>(x)
#endif
