// What the emulated runtime API asks of the emulated device.
#ifndef LLMTS_CUDA_EMULATION_LAUNCH_H
#define LLMTS_CUDA_EMULATION_LAUNCH_H

#include <string>

namespace emulation {

// The first error that a kernel made since the last call, with file and line; empty where there was none.
std::string take_report();

}  // namespace emulation

#endif
