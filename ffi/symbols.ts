/**
 * The functions of kernels/abi.h as one typed table: each parameter stands here as it is declared there, and
 * tests/ffi/abi_test.ts compares the two. How a C type crosses the FFI is said once, in `NATIVE`.
 *
 * @module
 */

/** The version of kernels/abi.h this table was written for; a library of another one is refused. */
export const ABI_VERSION = 2;

/** What a C type is to Deno. Pointers are views of memory that TypeScript owns, or null. */
const NATIVE = { int32_t: "i32", int64_t: "i64", float: "f32", pointer: "buffer" } as const;

type Native<Parameter extends string> = Parameter extends `${string}*${string}` ? "buffer"
  : Parameter extends `int32_t ${string}` ? "i32"
  : Parameter extends `int64_t ${string}` ? "i64"
  : Parameter extends `float ${string}` ? "f32"
  : never;

/** A C function that returns a status: its parameters as Deno takes them, and as C declares them. */
interface Declaration<Parameters extends readonly string[]> {
  readonly parameters: { readonly [Index in keyof Parameters]: Native<Parameters[Index]> };
  readonly result: "i32";
  readonly declared: Parameters;
}

/** A function of the table, from its parameters as C declares them. */
export function declare<const Parameters extends readonly string[]>(
  ...declared: Parameters
): Declaration<Parameters> {
  const native = declared.map((parameter) => {
    const type = parameter.includes("*") ? "pointer" : parameter.slice(0, parameter.indexOf(" "));
    return NATIVE[type as keyof typeof NATIVE];
  });
  return { parameters: native as unknown as Declaration<Parameters>["parameters"], result: "i32", declared };
}

/** The table. Shapes, units and errors of each function are in kernels/abi.h. */
export const SYMBOLS = {
  llmts_abi_version: declare(),
  llmts_last_error: declare("uint8_t *text", "int64_t *length", "int64_t capacity"),
  llmts_device_info: declare("uint8_t *text", "int64_t *length", "int64_t capacity"),
  llmts_set_threads: declare("int32_t threads"),
  llmts_shutdown: declare(),
  llmts_zero: declare("void *memory", "int64_t bytes"),
  llmts_alignment_gap: declare("int64_t *bytes", "const void *memory", "int64_t alignment"),
  llmts_packed_bytes: declare("int64_t *bytes", "int64_t OC", "int64_t C"),
  llmts_pack: declare(
    "void *packed",
    "const void *weight",
    "int32_t weight_dtype",
    "int64_t OC",
    "int64_t C",
  ),
  llmts_embedding_forward: declare(
    "void *out",
    "int32_t out_dtype",
    "const int32_t *tokens",
    "const void *wte",
    "int32_t wte_dtype",
    "const void *wpe",
    "int32_t wpe_dtype",
    "int64_t B",
    "int64_t T",
    "int64_t C",
    "int64_t V",
    "int64_t maxT",
    "int64_t position",
  ),
  llmts_embedding_backward: declare(
    "float *dwte",
    "float *dwpe",
    "const void *dout",
    "int32_t dout_dtype",
    "const int32_t *tokens",
    "int32_t accumulate",
    "int64_t B",
    "int64_t T",
    "int64_t C",
    "int64_t V",
    "int64_t maxT",
  ),
  llmts_layernorm_forward: declare(
    "void *out",
    "int32_t out_dtype",
    "float *mean",
    "float *rstd",
    "const void *x",
    "int32_t x_dtype",
    "const void *weight",
    "int32_t weight_dtype",
    "const void *bias",
    "int32_t bias_dtype",
    "int64_t N",
    "int64_t C",
  ),
  llmts_residual_layernorm_forward: declare(
    "void *residual",
    "int32_t residual_dtype",
    "void *out",
    "int32_t out_dtype",
    "float *mean",
    "float *rstd",
    "const void *a",
    "int32_t a_dtype",
    "const void *b",
    "int32_t b_dtype",
    "const void *weight",
    "int32_t weight_dtype",
    "const void *bias",
    "int32_t bias_dtype",
    "int64_t N",
    "int64_t C",
  ),
  llmts_layernorm_backward: declare(
    "void *dx",
    "int32_t dx_dtype",
    "float *dweight",
    "float *dbias",
    "const void *dout",
    "int32_t dout_dtype",
    "const void *dresidual",
    "int32_t dresidual_dtype",
    "const void *x",
    "int32_t x_dtype",
    "const float *mean",
    "const float *rstd",
    "const void *weight",
    "int32_t weight_dtype",
    "int32_t accumulate",
    "int64_t N",
    "int64_t C",
  ),
  llmts_matmul_forward: declare(
    "void *out",
    "int32_t out_dtype",
    "void *pre",
    "int32_t pre_dtype",
    "const void *x",
    "int32_t x_dtype",
    "const void *weight",
    "int32_t weight_dtype",
    "const void *packed",
    "const void *bias",
    "int32_t bias_dtype",
    "int32_t activation",
    "int64_t N",
    "int64_t C",
    "int64_t OC",
  ),
  llmts_matmul_dinput: declare(
    "void *dx",
    "int32_t dx_dtype",
    "const void *dout",
    "int32_t dout_dtype",
    "const void *weight",
    "int32_t weight_dtype",
    "const void *pre",
    "int32_t pre_dtype",
    "int64_t N",
    "int64_t C",
    "int64_t OC",
  ),
  llmts_matmul_dweight: declare(
    "float *dweight",
    "const void *dout",
    "int32_t dout_dtype",
    "const void *x",
    "int32_t x_dtype",
    "int32_t accumulate",
    "int64_t N",
    "int64_t C",
    "int64_t OC",
  ),
  llmts_matmul_dbias: declare(
    "float *dbias",
    "const void *dout",
    "int32_t dout_dtype",
    "int32_t accumulate",
    "int64_t N",
    "int64_t OC",
  ),
  llmts_attention_forward: declare(
    "void *out",
    "int32_t out_dtype",
    "float *lse",
    "const void *qkv",
    "int32_t qkv_dtype",
    "int64_t B",
    "int64_t T",
    "int64_t C",
    "int64_t NH",
  ),
  llmts_attention_backward: declare(
    "void *dqkv",
    "int32_t dqkv_dtype",
    "const void *dout",
    "int32_t dout_dtype",
    "const void *out",
    "int32_t out_dtype",
    "const float *lse",
    "const void *qkv",
    "int32_t qkv_dtype",
    "int64_t B",
    "int64_t T",
    "int64_t C",
    "int64_t NH",
  ),
  llmts_attention_cached: declare(
    "void *out",
    "int32_t out_dtype",
    "void *keys",
    "void *values",
    "int32_t cache_dtype",
    "const void *qkv",
    "int32_t qkv_dtype",
    "int64_t B",
    "int64_t T",
    "int64_t C",
    "int64_t NH",
    "int64_t maxT",
    "int64_t position",
  ),
  llmts_convert: declare(
    "void *out",
    "int32_t out_dtype",
    "const void *x",
    "int32_t x_dtype",
    "int64_t n",
  ),
  llmts_gelu_forward: declare(
    "void *out",
    "int32_t out_dtype",
    "const void *x",
    "int32_t x_dtype",
    "int64_t n",
  ),
  llmts_gelu_backward: declare(
    "void *dx",
    "int32_t dx_dtype",
    "const void *dout",
    "int32_t dout_dtype",
    "const void *x",
    "int32_t x_dtype",
    "int64_t n",
  ),
  llmts_residual_forward: declare(
    "void *out",
    "int32_t out_dtype",
    "const void *a",
    "int32_t a_dtype",
    "const void *b",
    "int32_t b_dtype",
    "int64_t n",
  ),
  llmts_classifier: declare(
    "float *losses",
    "void *dx",
    "int32_t dx_dtype",
    "float *dwte",
    "const void *x",
    "int32_t x_dtype",
    "const void *wte",
    "int32_t wte_dtype",
    "const int32_t *targets",
    "float scale",
    "int32_t accumulate",
    "int64_t N",
    "int64_t C",
    "int64_t V",
    "int64_t Vp",
  ),
  llmts_global_norm: declare("double *norm", "const float *grads", "int64_t n"),
  llmts_adamw: declare(
    "void *params",
    "int32_t params_dtype",
    "float *master",
    "const float *grads",
    "float *m",
    "float *v",
    "const int64_t *segments",
    "int64_t S",
    "int64_t n",
    "float learning_rate",
    "float beta1",
    "float beta2",
    "float eps",
    "float weight_decay",
    "float grad_scale",
    "int64_t step",
    "int64_t seed",
  ),
} as const;
