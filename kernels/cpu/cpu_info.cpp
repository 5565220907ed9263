#include "cpu/cpu_info.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <sstream>
#include <thread>

#include "cpu/threads.h"

#ifdef __linux__
#include <sched.h>
#endif
#ifdef __APPLE__
#include <sys/sysctl.h>
#endif
#if defined(__x86_64__)
#include <cpuid.h>

#include "cpu/amx.h"
#endif

namespace llmts {

#if defined(__x86_64__)

namespace {

// The registers of CPUID that hold feature bits, and the register sets the operating system saves (XCR0).
struct Features {
  uint32_t leaf1_ecx = 0, leaf7_ebx = 0, leaf7_ecx = 0, leaf7_edx = 0, leaf7_1_eax = 0, extended_ecx = 0;
  uint64_t saved = 0;
};

Features read_features() {
  Features f;
  uint32_t a, b, c, d;
  if (__get_cpuid(1, &a, &b, &c, &d)) f.leaf1_ecx = c;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
    f.leaf7_ebx = b;
    f.leaf7_ecx = c;
    f.leaf7_edx = d;
    if (a >= 1 && __get_cpuid_count(7, 1, &a, &b, &c, &d)) f.leaf7_1_eax = a;
  }
  if (__get_cpuid(0x80000001u, &a, &b, &c, &d)) f.extended_ecx = c;
  constexpr uint32_t kOsXsave = 1u << 27;
  if (f.leaf1_ecx & kOsXsave) {
    __asm__ volatile("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    f.saved = a | static_cast<uint64_t>(d) << 32;
  }
  return f;
}

const Features &features() {
  static const Features found = read_features();
  return found;
}

constexpr bool all(uint64_t word, uint64_t bits) { return (word & bits) == bits; }
constexpr uint64_t bits() { return 0; }
template <class... Rest>
constexpr uint64_t bits(int first, Rest... rest) {
  return uint64_t{1} << first | bits(rest...);
}

// Register sets of XCR0: SSE and AVX; with opmask and both halves of ZMM; with tile configuration and data.
constexpr uint64_t kSavesAvx = bits(1, 2), kSavesAvx512 = bits(1, 2, 5, 6, 7), kSavesAmx = bits(17, 18);

}  // namespace

// The levels of the x86-64 psABI, section 3.1.1.
int x86_level() {
  const Features &f = features();
  // SSE3, SSSE3, CMPXCHG16B, SSE4.1, SSE4.2, POPCNT; LAHF
  const bool v2 = all(f.leaf1_ecx, bits(0, 9, 13, 19, 20, 23)) && all(f.extended_ecx, bits(0));
  // FMA, MOVBE, OSXSAVE, AVX, F16C; BMI1, AVX2, BMI2; LZCNT
  const bool v3 = v2 && all(f.leaf1_ecx, bits(12, 22, 27, 28, 29)) && all(f.leaf7_ebx, bits(3, 5, 8)) &&
                  all(f.extended_ecx, bits(5)) && all(f.saved, kSavesAvx);
  // AVX-512 F, DQ, CD, BW, VL
  const bool v4 = v3 && all(f.leaf7_ebx, bits(16, 17, 28, 30, 31)) && all(f.saved, kSavesAvx512);
  return v4 ? 4 : v3 ? 3 : v2 ? 2 : 1;
}

std::vector<std::string> processor_features() {
  const Features &f = features();
  const int level = x86_level();
  std::vector<std::string> names;
  if (level >= 2) names.push_back("sse4_2");
  if (level >= 3) names.insert(names.end(), {"avx2", "fma"});
  if (level >= 4) {
    names.push_back("avx512");
    if (all(f.leaf7_ecx, bits(11))) names.push_back("avx512_vnni");
    if (all(f.leaf7_1_eax, bits(5))) names.push_back("avx512_bf16");
  }
  if (all(f.leaf7_edx, bits(22, 24)) && all(f.saved, kSavesAmx))
    names.push_back(amx::permitted() ? "amx_bf16" : "amx_bf16 refused by the system");
  return names;
}

#else

int x86_level() { return 0; }

std::vector<std::string> processor_features() {
#if defined(__aarch64__)
  return {"neon"};
#else
  return {};
#endif
}

#endif

std::string processor_name() {
#ifdef __APPLE__
  char name[256];
  size_t length = sizeof name;
  if (sysctlbyname("machdep.cpu.brand_string", name, &length, nullptr, 0) == 0) return name;
#else
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const size_t colon = line.find(": ");
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) return line.substr(colon + 2);
  }
#endif
  return "unknown processor";
}

namespace {

// Processors that `quota` of every `period` microseconds amounts to, rounded up; `none` where there is no such limit.
int quota_processors(int64_t quota, int64_t period, int none) {
  if (quota <= 0 || period <= 0) return none;
  return static_cast<int>(std::min<int64_t>(none, (quota + period - 1) / period));
}

// The CPU quota of this process's control group: the tightest on its way up to the root (version 2), else version 1's.
int control_group_processors(int none) {
  int limit = none;
  std::string path;
  std::ifstream groups("/proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {
    if (line.rfind("0::", 0) == 0) path = line.substr(3);
  }
  for (;;) {
    std::ifstream file("/sys/fs/cgroup" + path + "/cpu.max");
    int64_t quota = 0, period = 0;
    if (file >> quota >> period) limit = quota_processors(quota, period, limit);  // "max" is no number: no limit
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos) break;
    path.resize(slash);
  }
  std::ifstream quota_file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), period_file("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  int64_t quota = 0, period = 0;
  if (quota_file >> quota && period_file >> period) limit = quota_processors(quota, period, limit);
  return limit;
}

}  // namespace

int usable_processors() {
  int processors = static_cast<int>(std::thread::hardware_concurrency());
#ifdef __linux__
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) processors = CPU_COUNT(&mask);
#endif
  return std::clamp(control_group_processors(processors), 1, kMaxThreads);
}

}  // namespace llmts
