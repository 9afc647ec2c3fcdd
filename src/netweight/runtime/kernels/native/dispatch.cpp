// Which instruction sets this CPU and system can run, and which is in use.
#include <cstring>
#include <string>
#include <vector>

#include "ops.hpp"

#if defined(__x86_64__) || defined(_M_X64)
#if defined(_MSC_VER)
#include <intrin.h>
#else
#include <cpuid.h>
#endif
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif
#if defined(__linux__) && defined(__aarch64__)
#include <sys/auxv.h>
#endif

namespace nw {
namespace {

#if defined(__x86_64__) || defined(_M_X64)
struct Registers {
  unsigned a = 0, b = 0, c = 0, d = 0;
};

Registers cpuid(unsigned leaf, unsigned part) {
  Registers r;
#if defined(_MSC_VER)
  int out[4];
  __cpuidex(out, int(leaf), int(part));
  r = {unsigned(out[0]), unsigned(out[1]), unsigned(out[2]), unsigned(out[3])};
#else
  if (!__get_cpuid_count(leaf, part, &r.a, &r.b, &r.c, &r.d)) r = {};
#endif
  return r;
}

uint64_t saved_state() {  // which registers the system saves when it switches threads
#if defined(_MSC_VER)
  return _xgetbv(0);
#else
  unsigned low, high;
  asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return uint64_t(high) << 32 | low;
#endif
}

bool tiles_allowed() {  // Linux gives the tile registers to a process that asks
#if defined(__linux__)
  constexpr long REQUEST = 0x1023, TILE_DATA = 18;
  return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) == 0;
#else
  return false;
#endif
}

void x86_levels(std::vector<const Ops *> &found) {
  const Registers one = cpuid(1, 0), seven = cpuid(7, 0), more = cpuid(7, 1);
  const auto bit = [](unsigned value, int at) { return (value >> at & 1) != 0; };
  const bool saves = bit(one.c, 27);
  const uint64_t state = saves ? saved_state() : 0;
  const bool ymm = (state & 0x6) == 0x6, zmm = (state & 0xe6) == 0xe6, tile = (state & 0x60000) == 0x60000;
  const bool avx2 = ymm && bit(one.c, 12) && bit(one.c, 28) && bit(one.c, 29) && bit(seven.b, 5);
  const bool avx512 = avx2 && zmm && bit(seven.b, 16) && bit(seven.b, 17) && bit(seven.b, 30) && bit(seven.b, 31) &&
                      bit(seven.c, 1) && bit(seven.c, 11);
  (void)tile, (void)more;
#if defined(NW_HAS_AMX)
  if (avx512 && tile && bit(seven.d, 24) && bit(seven.d, 25) && tiles_allowed()) found.push_back(amx_ops());
#endif
#if defined(NW_HAS_AVX512)
  if (avx512) found.push_back(avx512_ops());
#endif
#if defined(NW_HAS_AVXVNNI)
  if (avx2 && bit(more.a, 4)) found.push_back(avxvnni_ops());
#endif
#if defined(NW_HAS_AVX2)
  if (avx2) found.push_back(avx2_ops());
#endif
}
#endif

std::vector<const Ops *> find_levels() {
  std::vector<const Ops *> found;
#if defined(__x86_64__) || defined(_M_X64)
  x86_levels(found);
#endif
#if defined(NW_HAS_NEON)
#if defined(__linux__)
  if (getauxval(AT_HWCAP) & (1UL << 20)) found.push_back(neon_ops());  // HWCAP_ASIMDDP
#else
  found.push_back(neon_ops());
#endif
#endif
  found.push_back(portable_ops());
  return found;
}

const std::vector<const Ops *> &levels() {
  static const std::vector<const Ops *> found = find_levels();
  return found;
}

const Ops *&chosen() {
  static const Ops *level = levels().front();
  return level;
}

}  // namespace

const Ops &ops() { return *chosen(); }

}  // namespace nw

extern "C" {

int nw_abi(void) { return NW_ABI; }

const char *nw_isa(void) { return nw::ops().name; }

const char *nw_isa_levels(void) {
  static const std::string all = [] {
    std::string names;
    for (const nw::Ops *level : nw::levels()) names += std::string(names.empty() ? "" : " ") + level->name;
    return names;
  }();
  return all.c_str();
}

int nw_set_isa(const char *name) {
  for (const nw::Ops *level : nw::levels())
    if (std::strcmp(level->name, name) == 0) {
      nw::chosen() = level;
      return NW_OK;
    }
  return NW_BAD_SPEC;
}
}
