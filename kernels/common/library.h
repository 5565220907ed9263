// What each library has of its own, for the functions in library.cpp.
#ifndef LLMTS_COMMON_LIBRARY_H
#define LLMTS_COMMON_LIBRARY_H

#include <string>

namespace llmts {

// The JSON object of llmts_device_info.
std::string describe();

// Frees the scratch memory that is not in use.
void free_scratch();

}  // namespace llmts

#endif
