/**
 * Finds, loads and checks a kernel library, and turns its statuses into errors. Nothing is loaded at import.
 *
 * @module
 */
import { dirname, fromFileUrl, join, resolve } from "@std/path";
import { LlmtsError, UsageError } from "../src/errors.ts";
import { DEVICE_SYMBOLS, deviceInterface } from "./device_symbols.ts";
import { type DeviceMemory, MEMORY_HINT } from "./memory.ts";
import { ABI_VERSION, SYMBOLS } from "./symbols.ts";
import { describe, type Tensor } from "./tensor.ts";

/** What a library says of itself and its machine (llmts_device_info). */
export interface DeviceInfo {
  readonly device: string;
  /**
   * What the library was built for: `x86-64-v2` … `x86-64-v4`, `avx512-bf16`, `amx`, `aarch64`, `cuda`, or `emulated`, `cuda`
   * without a GPU.
   */
  readonly variant: string;
  /** The highest x86-64 level the machine runs, 1 … 4; 0 on other machines. */
  readonly level: number;
  readonly features: readonly string[];
  readonly threads: number;
}

type Native<Symbols extends Deno.ForeignLibraryInterface> = Deno.DynamicLibrary<Symbols>["symbols"];

/** Parameters of a function: where it takes a pointer, a view of host memory or the device's own. */
type Arguments<Parameters extends readonly unknown[]> = {
  [Index in keyof Parameters]: Parameters[Index] extends number | bigint ? Parameters[Index]
    : Parameters[Index] | DeviceMemory;
};

type Call<Symbols extends Deno.ForeignLibraryInterface> = <Name extends keyof Symbols & string>(
  name: Name,
  tensors: Readonly<Record<string, Tensor | null>>,
  ...parameters: Native<Symbols>[Name] extends (...parameters: infer P) => unknown ? Arguments<P> : never
) => void;

/** A loaded kernel library. */
export interface Library {
  readonly path: string;
  /** Calls a function; `tensors`, by name, are only for the words of a {@linkcode KernelError}. */
  readonly call: Call<typeof SYMBOLS>;
  info(): DeviceInfo;
}

/** A loaded library of a device with memory of its own. */
export interface DeviceLibrary extends Library {
  /** As `call`, for the functions of kernels/abi_device.h. */
  readonly callDevice: Call<typeof DEVICE_SYMBOLS>;
}

/** llmts_status of kernels/abi.h. */
export const OUT_OF_MEMORY = 2;
const STATUS: Readonly<Record<number, string>> = {
  1: "invalid argument",
  2: "out of memory",
  3: "unsupported",
  4: "device error",
  5: "internal error",
};

/** A kernel refused its arguments or failed: the op, why, and the shapes it was given. */
export class KernelError extends LlmtsError {
  override name = "KernelError";
  /** The library's words without the op and its dimensions. */
  readonly reason: string;

  constructor(
    readonly op: string,
    readonly status: number,
    text: string,
    tensors: Readonly<Record<string, Tensor | null>>,
  ) {
    const given = Object.entries(tensors).map(([name, tensor]) => `${name} ${describe(tensor)}`).join(", ");
    super(`${op} failed (${STATUS[status] ?? `status ${status}`}): ${text}${given && ` [${given}]`}`, {
      ...(status === OUT_OF_MEMORY && { hint: MEMORY_HINT }),
    });
    this.reason = text.replace(/^\w+\(.*?\): /, "");
  }
}

/**
 * The CPU library's variants by the names that LLMTS_CPU_VARIANT takes, the best last, and what each needs: an x86-64 level and
 * features of {@linkcode DeviceInfo}. Each machine has at least the first.
 */
const VARIANTS = [
  { name: "v2", suffix: "", level: 0, features: [] },
  { name: "v3", suffix: "_v3", level: 3, features: [] },
  { name: "v4", suffix: "_v4", level: 4, features: [] },
  { name: "bf16", suffix: "_bf16", level: 4, features: ["avx512_bf16", "avx512_vnni"] },
  { name: "amx", suffix: "_amx", level: 4, features: ["avx512_bf16", "avx512_vnni", "amx_bf16"] },
] as const;

/** The names of the variants that a machine can run, the best last. */
export function runnableVariants({ level, features }: DeviceInfo): string[] {
  return VARIANTS.filter((variant) =>
    variant.level <= level && variant.features.every((feature) => features.includes(feature))
  ).map(({ name }) => name);
}

function libraryFile(suffix: string, kind: "cpu" | "cuda" = "cpu"): string {
  const extension = { darwin: "dylib", windows: "dll" }[Deno.build.os as string] ?? "so";
  return `${Deno.build.os === "windows" ? "" : "lib"}llmts_${kind}${suffix}.${extension}`;
}

/** Folders that may hold the libraries, in the order they are tried. */
function libraryFolders(): string[] {
  const home = Deno.env.get("LLMTS_HOME");
  const module = import.meta.url.startsWith("file:") ? dirname(fromFileUrl(import.meta.url)) : undefined;
  return [
    ...(home ? [join(home, "lib")] : []),
    ...(module ? [join(module, "..", "build", "lib")] : []),
    dirname(Deno.execPath()),
  ];
}

/** Whether a file is there to be loaded: one that may not be looked at is not, and the search goes on. */
function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/** The file or folder that the flag names, else the environment; an empty variable counts as unset. */
export function namedLibrary(path?: string): string | undefined {
  return path ?? (Deno.env.get("LLMTS_LIBRARY_PATH") || undefined);
}

const loaded = new Map<string, Library>();

/**
 * Loads the CPU library, the best variant for this machine. Looked for in this order: `path` (the `--library` flag), the
 * environment's LLMTS_LIBRARY_PATH (each a file or a folder), beside the module, beside the executable. LLMTS_CPU_VARIANT
 * (`v2`, `v3`, `v4`, `bf16`, `amx`) asks for one variant. A library is loaded once and never unloaded: it owns threads.
 *
 * @throws {LlmtsError} none was found (all tried paths are named), or it is of another ABI version
 */
export function loadLibrary(path?: string): Library {
  const asked = namedLibrary(path);
  if (asked !== undefined && isFile(asked)) return open(resolve(asked));
  const folders = asked === undefined ? libraryFolders() : [resolve(asked)];
  const folder = folders.find((folder) => isFile(join(folder, libraryFile(""))));
  if (folder === undefined) {
    const tried = folders.map((folder) => `"${join(folder, libraryFile(""))}"`).join(", ");
    throw new LlmtsError(`No kernel library was found; tried ${tried}`, {
      hint: "run `deno task build`, or name one with --library or LLMTS_LIBRARY_PATH",
    });
  }
  const base = open(join(folder, libraryFile("")));
  const runnable = runnableVariants(base.info());
  const file = (name: string): string =>
    join(folder, libraryFile(VARIANTS.find((variant) => variant.name === name)!.suffix));
  const forced = Deno.env.get("LLMTS_CPU_VARIANT");
  if (!forced) return open(file(runnable.findLast((name) => isFile(file(name)))!));
  if (!runnable.includes(forced)) {
    throw new UsageError(
      `LLMTS_CPU_VARIANT is "${forced}", but this machine runs ${runnable.join(", ")} only`,
    );
  }
  return open(file(forced));
}

/**
 * Loads the CUDA library, looked for as the CPU library is.
 *
 * @throws {LlmtsError} none was found (all tried paths are named), or it is of another ABI version
 */
export function loadCudaLibrary(path?: string): DeviceLibrary {
  const found = findCudaLibrary(path);
  if (found.file !== undefined) return openDeviceLibrary(found.file);
  const tried = found.tried.map((file) => `"${file}"`).join(", ");
  throw new LlmtsError(`No CUDA library was found; tried ${tried}`, {
    hint: "install the CUDA toolkit (nvcc) and run `deno task build`, or use --device cpu",
  });
}

/** Where the CUDA library is, if it was built. */
export function findCudaLibrary(path?: string): { file: string | undefined; tried: readonly string[] } {
  const asked = namedLibrary(path);
  if (asked !== undefined && isFile(asked)) return { file: resolve(asked), tried: [] };
  const folders = asked === undefined ? libraryFolders() : [resolve(asked)];
  const tried = folders.map((folder) => join(folder, libraryFile("", "cuda")));
  return { file: tried.find(isFile), tried };
}

/** Opens a library whose version fits, with the functions of `symbols`. */
function openNative(path: string, symbols: Deno.ForeignLibraryInterface): Record<string, NativeFunction> {
  const load = (symbols: Deno.ForeignLibraryInterface): Record<string, NativeFunction> => {
    try {
      return Deno.dlopen(path, symbols).symbols as unknown as Record<string, NativeFunction>;
    } catch (cause) {
      throw new LlmtsError(`The kernel library "${path}" can't be loaded: ${(cause as Error).message}`, {
        cause,
        hint:
          "it may be of another machine, or lack a library that it needs: rebuild it with `deno task build`",
      });
    }
  };
  // The version first: a library of another one may lack functions.
  const version = load({ llmts_abi_version: SYMBOLS.llmts_abi_version }).llmts_abi_version!();
  if (version !== ABI_VERSION) {
    throw new LlmtsError(
      `The kernel library "${path}" has ABI version ${version}; this llmts needs ${ABI_VERSION}`,
      {
        hint: "rebuild it with `deno task build`",
      },
    );
  }
  return load(symbols);
}

type NativeFunction = (...parameters: unknown[]) => number;

/** What is common to all libraries, over the loaded functions; `convert`, where given, makes of parameters what they take. */
function library(
  path: string,
  native: Record<string, NativeFunction>,
  convert?: (parameter: unknown) => unknown,
): DeviceLibrary {
  const read = (symbol: "llmts_last_error" | "llmts_device_info"): { status: number; text: string } => {
    const text = new Uint8Array(4096);
    const length = new BigInt64Array(1);
    const status = native[symbol]!(text, length, BigInt(text.length));
    return { status, text: new TextDecoder().decode(text.subarray(0, Number(length[0]))) };
  };
  const call = (
    name: string,
    tensors: Readonly<Record<string, Tensor | null>>,
    ...parameters: unknown[]
  ): void => {
    const status = native[name]!(...(convert === undefined ? parameters : parameters.map(convert)));
    if (status !== 0) {
      throw new KernelError(name.replace("llmts_", ""), status, read("llmts_last_error").text, tensors);
    }
  };
  return {
    path,
    call,
    callDevice: call,
    info(): DeviceInfo {
      const { status, text } = read("llmts_device_info");
      if (status !== 0) throw new KernelError("device_info", status, read("llmts_last_error").text, {});
      return JSON.parse(text) as DeviceInfo;
    },
  };
}

function open(path: string): Library {
  const known = loaded.get(path);
  if (known !== undefined) return known;
  const opened = library(path, openNative(path, SYMBOLS));
  loaded.set(path, opened);
  return opened;
}

const loadedForDevice = new Map<string, DeviceLibrary>();

function openDeviceLibrary(path: string): DeviceLibrary {
  const known = loadedForDevice.get(path);
  if (known !== undefined) return known;
  const opened = library(path, openNative(path, deviceInterface()), (parameter) => {
    const isDevice = typeof parameter === "object" && parameter !== null && "address" in parameter;
    if (!isDevice) return parameter;
    const { address, owner, byteLength } = parameter as DeviceMemory;
    if (owner.freed) {
      throw new TypeError(`Expected memory of the device, found ${byteLength} bytes that were freed`);
    }
    return Deno.UnsafePointer.create(address);
  });
  loadedForDevice.set(path, opened);
  return opened;
}
