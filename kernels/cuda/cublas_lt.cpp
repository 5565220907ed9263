// Finds and opens cuBLASLt when a product first needs it, so that the library itself loads on every machine.
#include "cuda/cublas_lt.h"

#include <dlfcn.h>
#include <glob.h>

#include <cstdlib>
#include <string>
#include <vector>

#include "common/door.h"

#if __has_include(<cublasLt.h>)
#include <cublasLt.h>

#include <type_traits>
namespace llmts::lt {
static_assert(kNotSupported == CUBLAS_STATUS_NOT_SUPPORTED && kSuccess == CUBLAS_STATUS_SUCCESS);
static_assert(kFp32 == int{CUDA_R_32F} && kBf16 == int{CUDA_R_16BF});
static_assert(kComputeFp32 == int{CUBLAS_COMPUTE_32F} && kComputeTf32 == int{CUBLAS_COMPUTE_32F_FAST_TF32});
static_assert(kAsIs == int{CUBLAS_OP_N} && kTransposed == int{CUBLAS_OP_T});
static_assert(kTransA == int{CUBLASLT_MATMUL_DESC_TRANSA} && kTransB == int{CUBLASLT_MATMUL_DESC_TRANSB});
static_assert(kEpilogue == int{CUBLASLT_MATMUL_DESC_EPILOGUE});
static_assert(kBiasPointer == int{CUBLASLT_MATMUL_DESC_BIAS_POINTER} &&
              kBiasType == int{CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE});
static_assert(kAuxPointer == int{CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER} &&
              kAuxStride == int{CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD} &&
              kAuxType == int{CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_DATA_TYPE});
static_assert(kMaxWorkspaceBytes == int{CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES});
static_assert(kAlignmentA == int{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES} &&
              kAlignmentB == int{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES} &&
              kAlignmentC == int{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES} &&
              kAlignmentD == int{CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES});
static_assert(kDefault == int{CUBLASLT_EPILOGUE_DEFAULT} && kBias == int{CUBLASLT_EPILOGUE_BIAS});
static_assert(kGelu == int{CUBLASLT_EPILOGUE_GELU} && kGeluBias == int{CUBLASLT_EPILOGUE_GELU_BIAS});
static_assert(kGeluAux == int{CUBLASLT_EPILOGUE_GELU_AUX} && kGeluAuxBias == int{CUBLASLT_EPILOGUE_GELU_AUX_BIAS});
static_assert(kGeluGradient == int{CUBLASLT_EPILOGUE_DGELU});
static_assert(sizeof(Algorithm) == sizeof(cublasLtMatmulAlgo_t) &&
              sizeof(Heuristic) == sizeof(cublasLtMatmulHeuristicResult_t));
}  // namespace llmts::lt
#endif

namespace llmts::lt {

namespace {

// Where it may be, in the order tried: named by the environment, where the system's linker looks, in a toolkit, in the
// nvidia-cublas package of a Python.
std::vector<std::string> candidates() {
  std::vector<std::string> patterns;
  if (const char *named = std::getenv("LLMTS_CUBLASLT"); named != nullptr && *named != '\0') patterns.push_back(named);
  for (const char *name : {"libcublasLt.so.13", "libcublasLt.so.12"}) {
    const std::string file = name;
    patterns.push_back(file);
    for (const char *variable : {"CUDA_HOME", "CUDA_PATH"}) {
      const char *const home = std::getenv(variable);
      if (home != nullptr && *home != '\0') patterns.push_back(std::string(home) + "/lib64/" + file);
    }
    patterns.push_back("/usr/local/cuda*/lib64/" + file);
    patterns.push_back("/opt/cuda/lib64/" + file);
    for (const char *variable : {"VIRTUAL_ENV", "CONDA_PREFIX", "HOME"}) {
      const char *const home = std::getenv(variable);
      if (home == nullptr || *home == '\0') continue;
      const std::string base = std::string(home) + (std::string(variable) == "HOME" ? "/.local" : "");
      patterns.push_back(base + "/lib/python3*/site-packages/nvidia/c*/lib/" + file);
    }
    patterns.push_back("/usr*/lib/python3*/*-packages/nvidia/c*/lib/" + file);
    patterns.push_back("/usr/local/lib/python3*/*-packages/nvidia/c*/lib/" + file);
  }
  std::vector<std::string> files;
  for (const std::string &pattern : patterns) {
    glob_t found;
    if (pattern.find('*') == std::string::npos) {
      files.push_back(pattern);
    } else if (glob(pattern.c_str(), 0, nullptr, &found) == 0) {
      files.insert(files.end(), found.gl_pathv, found.gl_pathv + found.gl_pathc);
      globfree(&found);
    }
  }
  return files;
}

void *open() {
  const std::vector<std::string> files = candidates();
  for (const std::string &file : files) {
    if (void *const library = dlopen(file.c_str(), RTLD_NOW | RTLD_LOCAL)) return library;
  }
  std::string tried;
  for (const std::string &file : files) tried += (tried.empty() ? "\"" : ", \"") + file + "\"";
  fail(LLMTS_DEVICE_ERROR,
       "cuBLASLt was not found; install the CUDA toolkit or `pip install nvidia-cublas`, or name the file in "
       "LLMTS_CUBLASLT; tried %s",
       tried.c_str());
}

template <class Function>
void resolve(Function &function, void *library, const char *name) {
  function = reinterpret_cast<Function>(dlsym(library, name));
  if (function == nullptr) fail(LLMTS_DEVICE_ERROR, "cuBLASLt has no %s, expected version 12 or later", name);
}

Functions load() {
  void *const library = open();
  Functions f;
  resolve(f.create, library, "cublasLtCreate");
  resolve(f.version, library, "cublasLtGetVersion");
  resolve(f.description_create, library, "cublasLtMatmulDescCreate");
  resolve(f.description_destroy, library, "cublasLtMatmulDescDestroy");
  resolve(f.description_set, library, "cublasLtMatmulDescSetAttribute");
  resolve(f.layout_create, library, "cublasLtMatrixLayoutCreate");
  resolve(f.layout_destroy, library, "cublasLtMatrixLayoutDestroy");
  resolve(f.preference_create, library, "cublasLtMatmulPreferenceCreate");
  resolve(f.preference_destroy, library, "cublasLtMatmulPreferenceDestroy");
  resolve(f.preference_set, library, "cublasLtMatmulPreferenceSetAttribute");
  resolve(f.heuristic, library, "cublasLtMatmulAlgoGetHeuristic");
  resolve(f.matmul, library, "cublasLtMatmul");
  return f;
}

}  // namespace

const Functions &functions() {
  static const Functions loaded = load();  // tried again at the next call where it throws
  return loaded;
}

}  // namespace llmts::lt
