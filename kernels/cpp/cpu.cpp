#include "cpu.h"

#include <cstdint>
#include <stdexcept>

#if defined(__x86_64__) || defined(_M_X64)
#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#define PAIRSCORE_X86 1
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#elif defined(__aarch64__) && defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace pairscore {
namespace {

struct Features {
  bool avx2 = false, avx512bw = false, avxvnni = false, avx512vnni = false, amx = false, dotprod = false, i8mm = false;
};

#ifdef PAIRSCORE_X86
struct Registers {
  std::uint32_t a, b, c, d;
};

// All zero where the processor does not know the leaf.
Registers cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
  Registers r{};
#if defined(_MSC_VER)
  int found[4];
  __cpuid(found, 0);
  if (static_cast<std::uint32_t>(found[0]) < leaf) return r;
  __cpuidex(found, static_cast<int>(leaf), static_cast<int>(subleaf));
  r = {static_cast<std::uint32_t>(found[0]), static_cast<std::uint32_t>(found[1]),
       static_cast<std::uint32_t>(found[2]), static_cast<std::uint32_t>(found[3])};
#else
  __get_cpuid_count(leaf, subleaf, &r.a, &r.b, &r.c, &r.d);
#endif
  return r;
}

// The registers that the operating system saves when it switches threads, as bits.
std::uint64_t saved_registers() {
#if defined(_MSC_VER)
  return _xgetbv(0);
#else
  std::uint32_t low, high;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return low | static_cast<std::uint64_t>(high) << 32;
#endif
}

bool has(std::uint32_t bits, int place) { return (bits >> place & 1) != 0; }

// Whether the operating system lets this process use AMX's tiles. Linux gives them to processes that ask (its
// documentation, arch/x86/xstate), since their 8 KiB make every context that it saves larger.
bool may_use_tiles() {
#if defined(__linux__)
  constexpr long kRequestPermission = 0x1023, kTileData = 18;
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
#else
  return false;
#endif
}

// Bits: Intel 64 and IA-32 Software Developer's Manual, volume 2A, CPUID. A processor may know instructions whose
// registers the operating system does not save; then they must not be used.
Features detect() {
  Features features;
  Registers basic = cpuid(1, 0), extended = cpuid(7, 0), more = cpuid(7, 1);
  if (!has(basic.c, 27)) return features;  // OSXSAVE: xgetbv may be asked
  std::uint64_t saved = saved_registers();
  bool ymm = (saved & 0x06) == 0x06, zmm = (saved & 0xE6) == 0xE6;
  features.avx2 = ymm && has(basic.c, 12) && has(basic.c, 28) && has(extended.b, 5);  // FMA, AVX, AVX2
  features.avxvnni = features.avx2 && has(more.a, 4);
  bool avx512f = features.avx2 && zmm && has(extended.b, 16);
  features.avx512bw = avx512f && has(extended.b, 30);
  features.avx512vnni = features.avx512bw && has(extended.c, 11);
  bool tiles = (saved & 0x60000) == 0x60000 && has(extended.d, 24) && has(extended.d, 25);  // AMX-TILE, AMX-INT8
  features.amx = features.avx512vnni && tiles && may_use_tiles();
  return features;
}
#elif defined(__aarch64__) && defined(__linux__)
// Bits: Linux, arch/arm64/include/uapi/asm/hwcap.h, HWCAP_ASIMDDP and HWCAP2_I8MM.
Features detect() {
  Features features;
  features.dotprod = (getauxval(AT_HWCAP) >> 20 & 1) != 0;
  features.i8mm = features.dotprod && (getauxval(AT_HWCAP2) >> 13 & 1) != 0;
  return features;
}
#elif defined(__aarch64__) && defined(__APPLE__)
bool has(const char* name) {
  int value = 0;
  std::size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 && value != 0;
}

Features detect() {
  Features features;
  features.dotprod = has("hw.optional.arm.FEAT_DotProd");
  features.i8mm = features.dotprod && has("hw.optional.arm.FEAT_I8MM");
  return features;
}
#else
Features detect() { return {}; }
#endif

}  // namespace

std::vector<const Kernels*> available_kernels() {
  [[maybe_unused]] Features features = detect();
#ifdef PAIRSCORE_EMULATED
  features.avx512bw = features.avxvnni = features.avx512vnni = features.amx = features.avx2;  // See emulation/immintrin.h.
#endif
  std::vector<const Kernels*> found;  // CMake defines PAIRSCORE_HAS_* for what it built.
#ifdef PAIRSCORE_HAS_amx
  if (features.amx) found.push_back(amx_kernels());
#endif
#ifdef PAIRSCORE_HAS_avx512vnni
  if (features.avx512vnni) found.push_back(avx512vnni_kernels());
#endif
#ifdef PAIRSCORE_HAS_avxvnni
  if (features.avxvnni) found.push_back(avxvnni_kernels());
#endif
#ifdef PAIRSCORE_HAS_avx512bw
  if (features.avx512bw) found.push_back(avx512bw_kernels());
#endif
#ifdef PAIRSCORE_HAS_avx2
  if (features.avx2) found.push_back(avx2_kernels());
#endif
#ifdef PAIRSCORE_HAS_i8mm
  if (features.i8mm) found.push_back(i8mm_kernels());
#endif
#ifdef PAIRSCORE_HAS_dotprod
  if (features.dotprod) found.push_back(dotprod_kernels());
#endif
  found.push_back(portable_kernels());
  return found;
}

const Kernels& find_kernels(const std::string& name) {
  std::string names;
  for (const Kernels* kernels : available_kernels()) {
    if (name.empty() || name == kernels->name) return *kernels;
    names += (names.empty() ? "" : ", ") + std::string(kernels->name);
  }
  throw std::invalid_argument("isa " + name + " does not run here: this build on this processor has " + names);
}

const Kernels& for_weights(const Kernels& kernels, [[maybe_unused]] bool narrow) {
#ifdef PAIRSCORE_HAS_avx512bw_narrow
  if (narrow && &kernels == avx512bw_kernels()) return *avx512bw_narrow_kernels();
#endif
#ifdef PAIRSCORE_HAS_avx2_narrow
  if (narrow && &kernels == avx2_kernels()) return *avx2_narrow_kernels();
#endif
  return kernels;
}

}  // namespace pairscore
