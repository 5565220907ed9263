// What this machine is: its name, its instruction sets, the processors this process may use.
#ifndef LLMTS_CPU_CPU_INFO_H
#define LLMTS_CPU_CPU_INFO_H

#include <string>
#include <vector>

namespace llmts {

// The processor's name, as the system gives it.
std::string processor_name();

// Instruction sets that matter to these kernels, those the operating system saves the registers of.
std::vector<std::string> processor_features();

// The highest x86-64 microarchitecture level (1 … 4) this machine can run; 0 on other machines.
int x86_level();

// Processors of this process's affinity mask, at most its control group's quota, at least 1.
int usable_processors();

}  // namespace llmts

#endif
