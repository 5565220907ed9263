// Runs the checks: cuda_checks [--seed N]… [CASE…]. Prints a line for each case and seed; exit code 1 where one failed.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>

#include "checks.h"
#include "cuda/emulation/emulation.h"

int main(int count, char **arguments) {
  using namespace checks;
  std::vector<uint64_t> seeds;
  std::vector<std::string> names;
  for (int i = 1; i < count; ++i) {
    if (std::string(arguments[i]) == "--seed" && i + 1 < count)
      seeds.push_back(std::strtoull(arguments[++i], nullptr, 10));
    else
      names.push_back(arguments[i]);
  }
  if (seeds.empty()) seeds.push_back(0);
  std::vector<Case> cases;
  for (const auto &family : {row_cases(), product_cases(), attention_cases(), emulation_cases()})
    cases.insert(cases.end(), family.begin(), family.end());
  int run = 0, failed = 0;
  for (const uint64_t seed : seeds) {
    emulation::set_seed(seed);
    for (const Case &each : cases) {
      if (!names.empty() && std::find(names.begin(), names.end(), each.name) == names.end()) continue;
      ++run;
      std::string failure;
      try {
        each.run();
        succeeds(llmts_device_synchronize());
      } catch (const std::exception &error) {
        failure = error.what();
        ++failed;
      }
      std::printf("%s %s (seed %llu)%s%s\n", failure.empty() ? "ok" : "FAILED", each.name,
                  static_cast<unsigned long long>(seed), failure.empty() ? "" : ": ", failure.c_str());
      std::fflush(stdout);
    }
  }
  if (run == 0) std::printf("no such case\n");
  return run == 0 || failed > 0 ? 1 : 0;
}
