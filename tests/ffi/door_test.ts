/**
 * What every function of kernels/abi.h refuses at its door: one argument at a time is wrong, and the call has to return a
 * status and words for it, before it follows a pointer or believes a dimension.
 */
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { type Device, openDevice } from "../../ffi/device.ts";
import { KernelError, OUT_OF_MEMORY } from "../../ffi/library.ts";
import { SYMBOLS } from "../../ffi/symbols.ts";
import { TEST_DEVICES } from "../devices.ts";

type Name = keyof typeof SYMBOLS;
type Values = Readonly<Record<string, unknown>>;

const INVALID_ARGUMENT = 1;

/** Arguments that are right: dimensions and numbers by name. Each pointer is to memory of its own, which is large enough. */
const CALLS: Readonly<Partial<Record<Name, Values>>> = {
  llmts_last_error: { capacity: 100n },
  llmts_device_info: { capacity: 100n },
  llmts_zero: { bytes: 64n },
  llmts_alignment_gap: { alignment: 64n },
  llmts_packed_bytes: { OC: 6n, C: 4n },
  llmts_pack: { OC: 6n, C: 4n },
  llmts_embedding_forward: { B: 2n, T: 3n, C: 4n, V: 5n, maxT: 6n, position: 1n },
  llmts_embedding_backward: { accumulate: 0, B: 2n, T: 3n, C: 4n, V: 5n, maxT: 6n },
  llmts_layernorm_forward: { N: 3n, C: 4n },
  llmts_residual_layernorm_forward: { N: 3n, C: 4n },
  llmts_layernorm_backward: { accumulate: 0, N: 3n, C: 4n },
  llmts_matmul_forward: { packed: null, activation: 1, N: 3n, C: 4n, OC: 6n },
  llmts_matmul_dinput: { N: 3n, C: 4n, OC: 6n },
  llmts_matmul_dweight: { accumulate: 0, N: 3n, C: 4n, OC: 6n },
  llmts_matmul_dbias: { accumulate: 0, N: 3n, OC: 6n },
  llmts_attention_forward: { B: 2n, T: 3n, C: 4n, NH: 2n },
  llmts_attention_backward: { B: 2n, T: 3n, C: 4n, NH: 2n },
  llmts_attention_cached: { B: 2n, T: 3n, C: 4n, NH: 2n, maxT: 6n, position: 1n },
  llmts_convert: { n: 8n },
  llmts_gelu_forward: { n: 8n },
  llmts_gelu_backward: { n: 8n },
  llmts_residual_forward: { n: 8n },
  llmts_classifier: { scale: 1, accumulate: 0, N: 3n, C: 4n, V: 5n, Vp: 6n },
  llmts_global_norm: { n: 8n },
  // deno-fmt-ignore
  llmts_adamw: { master: null, segments: BigInt64Array.of(0n, 5n, 1n, 5n, 3n, 0n), S: 2n, n: 8n, learning_rate: 0.1,
    beta1: 0.9, beta2: 0.99, eps: 1e-8, weight_decay: 0.1, grad_scale: 1, step: 1n, seed: 0n },
};

/** Pointers that may be null. */
const OPTIONAL: Readonly<Partial<Record<Name, readonly string[]>>> = {
  llmts_layernorm_forward: ["mean", "rstd"],
  llmts_residual_layernorm_forward: ["mean", "rstd"],
  llmts_layernorm_backward: ["dresidual"],
  llmts_matmul_forward: ["pre", "packed", "bias"],
  llmts_matmul_dinput: ["pre"],
  llmts_attention_forward: ["lse"],
  llmts_adamw: ["master"],
};

/** Dimensions that may be as large as they like: what they say is not the size of a tensor of larger elements. */
const UNBOUNDED = new Set(["llmts_last_error", "llmts_device_info", "llmts_alignment_gap", "llmts_zero"]);

interface Parameter {
  readonly name: string;
  readonly type: string;
  readonly pointer: boolean;
}

function parametersOf(name: Name): Parameter[] {
  return SYMBOLS[name].declared.map((declared) => {
    const [, type = "", name = ""] = declared.match(/^(.*?)(\w+)$/) ?? [];
    return { name, type: type.replaceAll(/const|\*/g, "").trim(), pointer: type.includes("*") };
  });
}

/** Calls a function with the arguments that are right but for `changes`. */
function call({ library, allocate }: Device, name: Name, changes: Values): void {
  const known: Values = { ...CALLS[name], ...changes };
  const values = parametersOf(name).map(({ name, pointer }) => {
    if (name in known) return known[name];
    return pointer ? allocate(1024) : 0; // a dtype: fp32
  });
  const { call } = library as unknown as { call(name: Name, tensors: object, ...values: unknown[]): void };
  call(name, {}, ...values);
}

const describe = (value: unknown): string => value instanceof Uint8Array ? "in other memory" : String(value);

/** Asserts that a call is refused, and with which words; the function's name and dimensions go before them. */
function assertRefused(
  device: Device,
  name: Name,
  changes: Values,
  words: RegExp,
  status = INVALID_ARGUMENT,
): void {
  const what = `${name} with ${Object.entries(changes).map(([name, value]) => `${name} ${describe(value)}`)}`;
  let error: unknown;
  try {
    call(device, name, changes);
  } catch (thrown) {
    error = thrown;
  }
  assert(error instanceof KernelError, `${what}: ${error ?? "was taken"}`);
  assertEquals([error.op, error.status], [name.replace("llmts_", ""), status], what);
  assertMatch(error.reason, words, what);
}

const device = TEST_DEVICES.at(-1)!.open();
/** CUDA kernels have no int8 weights, no threads of the host, and see ids only when they run. */
const isCpu = device.ops.packedBytes(2, 3) > 0;
const NAMES = (Object.keys(CALLS) as Name[]).filter((name) => isCpu || !name.startsWith("llmts_pack"));

Deno.test("every function with a dimension or a pointer takes what is right", () => {
  const plain = Object.keys(SYMBOLS).filter((name) => parametersOf(name as Name).length > 1);
  assertEquals(Object.keys(CALLS).toSorted(), plain.toSorted());
  for (const name of NAMES) call(device, name, {});
  for (const [name, pointers] of Object.entries(OPTIONAL)) {
    for (const pointer of pointers) call(device, name as Name, { [pointer]: null });
  }
});

Deno.test("no function takes a negative dimension", () => {
  for (const name of NAMES) {
    for (const { name: dimension, type, pointer } of parametersOf(name)) {
      if (pointer || type !== "int64_t" || dimension === "seed") continue;
      for (const value of [-1n, -(2n ** 63n)]) {
        assertRefused(device, name, { [dimension]: value }, RegExp(`^${dimension} is ${value}, expected`));
      }
    }
  }
  assertRefused(device, "llmts_set_threads", { threads: -1 }, /^threads is -1, expected/);
});

Deno.test("no function takes dimensions whose tensors are larger than 64 bits can say", () => {
  for (const name of NAMES) {
    if (UNBOUNDED.has(name)) continue;
    for (const { name: dimension, type, pointer } of parametersOf(name)) {
      if (pointer || type !== "int64_t" || /^(step|seed)$/.test(dimension)) continue;
      for (const value of [2n ** 62n, 2n ** 63n - 1n]) {
        // Where other dimensions bound it, or a layout has to be worked out, other words may come first.
        const words = /would take more bytes than 64 bits can count|expected (at most|at least|a divisor of)/;
        const status = name === "llmts_packed_bytes" ? OUT_OF_MEMORY : INVALID_ARGUMENT;
        assertRefused(device, name, { [dimension]: value }, words, status);
      }
    }
  }
});

Deno.test("no function takes a null pointer for what it needs", () => {
  for (const name of NAMES) {
    for (const { name: tensor, pointer } of parametersOf(name)) {
      if (!pointer || OPTIONAL[name]?.includes(tensor)) continue;
      const words = name === "llmts_classifier" && /^d(x|wte)$/.test(tensor)
        ? /^one of 'dx' and 'dwte' is null, expected both or neither$/
        : RegExp(`^'${tensor}' is a null pointer, expected \\d+ bytes$`);
      assertRefused(device, name, { [tensor]: null }, words);
    }
  }
});

Deno.test("no function takes a pointer that is not aligned to its elements", () => {
  const sizes: Readonly<Record<string, number>> = { float: 4, int32_t: 4, int64_t: 8, double: 8, void: 4 };
  for (const name of NAMES) {
    const parameters = parametersOf(name);
    for (const { name: tensor, type, pointer } of parameters) {
      const bytes = sizes[type];
      if (!pointer || bytes === undefined || /^(memory|packed)$/.test(tensor)) continue; // those are bytes
      const misaligned = (offset: number): Values => ({
        [tensor]: (device.allocate(1024) as Uint8Array<ArrayBuffer>).subarray(offset),
      });
      const words = (bytes: number) =>
        RegExp(`^'${tensor}' is not aligned to its elements of ${bytes} bytes$`);
      const bf16Params = tensor === "master" ? { params_dtype: 1 } : {};
      for (const offset of [1, bytes / 2, bytes - 1]) {
        assertRefused(device, name, { ...misaligned(offset), ...bf16Params }, words(bytes));
      }
      const dtype = /^(keys|values)$/.test(tensor) ? "cache_dtype" : `${tensor}_dtype`;
      if (!parameters.some(({ name }) => name === dtype)) continue;
      assertRefused(device, name, { ...misaligned(1), [dtype]: 1 }, words(2));
      call(device, name, { ...misaligned(2), [dtype]: 1 });
    }
  }
});

Deno.test("no function takes a dtype that there is not", () => {
  for (const name of NAMES) {
    for (const { name: dtype } of parametersOf(name)) {
      if (!dtype.endsWith("_dtype")) continue;
      for (const value of [-1, 2]) {
        assertRefused(device, name, { [dtype]: value }, RegExp(`has dtype ${value}, expected 0 \\(fp32\\)`));
      }
    }
  }
});

Deno.test("functions refuse numbers that don't go together", () => {
  const ids = (...values: number[]): Int32Array => Int32Array.from({ length: 6 }, (_, i) => values[i] ?? 0);
  const segments = (...values: number[]): BigInt64Array => BigInt64Array.from(values, BigInt);
  const cases: readonly (readonly [Name, Values, RegExp])[] = [
    ["llmts_set_threads", { threads: 1025 }, /^threads is 1025, expected 0 \(the default\) or 1 to 1024$/],
    ["llmts_alignment_gap", { alignment: 48n }, /^alignment is 48, expected a power of two$/],
    ["llmts_embedding_forward", { position: 4n }, /^position \+ T is 4 \+ 3, expected at most maxT, 6$/],
    ["llmts_embedding_forward", { maxT: 2n, position: 0n }, /expected at most maxT, 2$/],
    ["llmts_embedding_forward", { position: 2n ** 63n - 1n }, /expected at most maxT, 6$/],
    ["llmts_embedding_forward", { tokens: ids(0, 5) }, /^token 5 at row 1 is outside the vocabulary of 5$/],
    ["llmts_embedding_forward", { tokens: ids(0, 0, 0, 0, 0, -1) }, /^token -1 at row 5 is outside/],
    ["llmts_embedding_backward", { tokens: ids(0, 5) }, /^token 5 at row 1 is outside the vocabulary of 5$/],
    ["llmts_embedding_backward", { tokens: ids(-1) }, /^token -1 at row 0 is outside/],
    ["llmts_embedding_backward", { maxT: 2n }, /^T is 3, expected at most maxT, 2$/],
    ["llmts_matmul_forward", { activation: 2 }, /^activation is 2, expected 0 \(identity\) or 1 \(GELU\)$/],
    ["llmts_matmul_forward", { activation: -1 }, /^activation is -1, expected/],
    ["llmts_attention_forward", { NH: 3n }, /^NH is 3, expected a divisor of C, 4$/],
    ["llmts_attention_forward", { NH: 0n }, /^NH is 0, expected a divisor of C, 4$/],
    ["llmts_attention_backward", { NH: 3n }, /^NH is 3, expected a divisor of C, 4$/],
    ["llmts_attention_backward", { NH: 0n }, /^NH is 0, expected a divisor of C, 4$/],
    ["llmts_attention_cached", { NH: 3n }, /^NH is 3, expected a divisor of C, 4$/],
    ["llmts_attention_cached", { NH: 0n }, /^NH is 0, expected a divisor of C, 4$/],
    ["llmts_attention_cached", { position: 4n }, /^position \+ T is 4 \+ 3, expected at most maxT, 6$/],
    ["llmts_attention_cached", { position: 2n ** 63n - 1n }, /expected at most maxT, 6$/],
    ["llmts_classifier", { Vp: 4n }, /^Vp is 4, expected at least V, 5$/],
    [
      "llmts_classifier",
      { targets: ids(0, -2) },
      /^target -2 at row 1 is neither -1 nor in the vocabulary of 5$/,
    ],
    ["llmts_classifier", { targets: ids(0, 0, 5) }, /^target 5 at row 2 is neither/], // padding
    ["llmts_adamw", { step: 0n }, /^step is 0, expected 1 or more$/],
    ["llmts_adamw", { beta1: 1 }, /^beta1 and beta2 are 1 and 0.99, expected 0 or more and below 1$/],
    ["llmts_adamw", { beta1: -0.5 }, /^beta1 and beta2 are -0.5 and/],
    ["llmts_adamw", { beta2: 1 }, /^beta1 and beta2 are 0.9 and 1, expected/],
    ["llmts_adamw", { beta2: NaN }, /^beta1 and beta2 are 0.9 and -?nan, expected/],
    [
      "llmts_adamw",
      { master: new Float32Array(8) },
      /^'master' is not null, but params are fp32 themselves$/,
    ],
    [
      "llmts_adamw",
      { segments: segments(0, 5, 1, 5, 4, 0) },
      /^segment 1 is 4 elements from 5, expected inside/,
    ],
    [
      "llmts_adamw",
      { segments: segments(0, 9, 1, 5, 3, 0) },
      /^segment 0 is 9 elements from 0, expected inside/,
    ],
    ["llmts_adamw", { segments: segments(-1, 2, 1, 5, 3, 0) }, /^segment 0 is 2 elements from -1, expected/],
    ["llmts_adamw", { segments: segments(5, -1, 1, 5, 3, 0) }, /^segment 0 is -1 elements from 5, expected/],
    ["llmts_adamw", { segments: segments(9, 0, 1, 5, 3, 0) }, /^segment 0 is 0 elements from 9, expected/],
    [
      "llmts_adamw",
      { segments: segments(0, 5, 2, 5, 3, 0) },
      /^segment 0 has weight decay 2, expected 0 or 1$/,
    ],
    // The sum of both is beyond 64 bits.
    ["llmts_adamw", { segments: BigInt64Array.of(5n, 2n ** 63n - 4n, 1n, 5n, 3n, 0n) }, /^segment 0 is/],
  ];
  for (const [name, changes, words] of cases) {
    if (isCpu || !/threads|tokens|targets/.test(Object.keys(changes).join())) {
      assertRefused(device, name, changes, words);
    }
  }
  for (const name of NAMES) {
    if (!("accumulate" in CALLS[name]!)) continue;
    for (const accumulate of [-1, 2]) {
      assertRefused(device, name, { accumulate }, RegExp(`^accumulate is ${accumulate}, expected 0 or 1$`));
    }
  }
});

Deno.test("a call that is refused leaves the number of threads as it was", () => {
  const opened = openDevice({ device: "cpu", threads: 3 });
  for (const threads of [-1, 1025, 2 ** 31 - 1]) {
    assertThrows(() => opened.library.call("llmts_set_threads", {}, threads), KernelError);
    assertEquals(opened.info().threads, 3);
  }
});
