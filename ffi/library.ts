/**
 * Finds, loads and checks a kernel library, and turns its statuses into errors. Nothing is loaded at import.
 *
 * @module
 */
import { basename, dirname, fromFileUrl, join, resolve } from "@std/path";
import { LlmtsError, UsageError } from "../src/errors.ts";
import { DEVICE_SYMBOLS, deviceInterface } from "./device_symbols.ts";
import { elfFault } from "./elf.ts";
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
const DEVICE_ERROR = 4;
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
  return stat(path)?.isFile ?? false;
}

function stat(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.statSync(path);
  } catch {
    return undefined;
  }
}

/**
 * Where a library of this name may be, in the order that is tried.
 *
 * @param asked a folder, or the library itself by any name
 */
function candidates(name: string, asked: string | undefined): readonly string[] {
  if (asked === undefined) return libraryFolders().map((folder) => join(folder, name));
  const path = resolve(asked);
  return [stat(path)?.isDirectory ? join(path, name) : path];
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
  return loadCpuLibrary(namedLibrary(path));
}

/**
 * Loads the CPU library that goes with a CUDA library: from the folder that the environment names, else as built. A file
 * that it names is the CUDA library.
 *
 * @throws {LlmtsError} as {@linkcode loadLibrary}
 */
export function loadHostLibrary(): Library {
  const named = namedLibrary();
  return loadCpuLibrary(named !== undefined && stat(named)?.isDirectory ? named : undefined);
}

function loadCpuLibrary(asked: string | undefined): Library {
  const tried = candidates(libraryFile(""), asked);
  const found = tried.find(isFile);
  if (found === undefined) {
    tried.forEach(requireReadable);
    throw new LlmtsError(
      `No kernel library was found; tried ${tried.map((file) => `"${file}"`).join(", ")}`,
      {
        hint: "run `deno task build`, or name one with --library or LLMTS_LIBRARY_PATH",
      },
    );
  }
  if (asked !== undefined && found === resolve(asked)) return openNamed(found);
  const folder = dirname(found);
  const base = open(found);
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

/** @throws {Deno.errors.NotCapable} Deno may not look whether there is such a file */
function requireReadable(path: string): void {
  try {
    Deno.statSync(path);
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable) throw error;
  }
}

/** Opens the file that a user named, which may be the GPU's, or a variant for other processors: the process would die of both. */
function openNamed(path: string): Library {
  const variant = VARIANTS.find(({ suffix }) => libraryFile(suffix) === basename(path));
  const base = join(dirname(path), libraryFile(""));
  if (variant !== undefined && isFile(base)) {
    const runnable = runnableVariants(open(base).info());
    if (!runnable.includes(variant.name)) {
      throw new LlmtsError(
        `The kernel library "${path}" is variant ${variant.name}, but this machine runs ${
          runnable.join(", ")
        } only`,
        { hint: "name the folder: the best variant in it is taken" },
      );
    }
  }
  const library = open(path);
  if (isCuda(library)) {
    throw new LlmtsError(`The kernel library "${path}" is the GPU's, expected the CPU's`, {
      hint: "--device cuda takes it; or name the folder, which has both",
    });
  }
  return library;
}

/** Whether a library is the GPU's: it says so, or can say nothing for want of a driver. */
function isCuda(library: Library): boolean {
  try {
    return library.info().variant === "cuda";
  } catch (error) {
    if (error instanceof KernelError && error.status === DEVICE_ERROR) return true;
    throw error;
  }
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
  const tried = candidates(libraryFile("", "cuda"), namedLibrary(path));
  return { file: tried.find(isFile), tried };
}

/** Opens a library whose version fits, with the functions of `symbols`; `device`: those of a device's memory among them. */
function openNative(
  path: string,
  symbols: Deno.ForeignLibraryInterface,
  device: boolean,
): Record<string, NativeFunction> {
  const fault = Deno.build.os === "linux" ? elfFault(path) : undefined;
  if (fault !== undefined) throw cannotLoad(path, fault, { hint: REBUILD });
  // The version first: a library of another one may lack functions.
  const { llmts_abi_version: version, llmts_device_alloc: alloc } = load(path, {
    llmts_abi_version: SYMBOLS.llmts_abi_version,
    llmts_device_alloc: { ...DEVICE_SYMBOLS.llmts_device_alloc, optional: true },
  });
  const found = version!();
  if (found !== ABI_VERSION) {
    throw new LlmtsError(
      `The kernel library "${path}" has ABI version ${found}; this llmts needs ${ABI_VERSION}`,
      { hint: REBUILD },
    );
  }
  if (device && alloc === null) {
    throw new LlmtsError(`The kernel library "${path}" is the CPU's, expected the GPU's`, {
      hint: `name ${libraryFile("", "cuda")} or its folder, or use --device cpu`,
    });
  }
  return load(path, symbols) as Record<string, NativeFunction>;
}

const REBUILD = "rebuild it with `deno task build`";

/** The functions of a library; null: an optional one that it lacks. */
function load(
  path: string,
  symbols: Deno.ForeignLibraryInterface,
): Record<string, NativeFunction | null> {
  try {
    return Deno.dlopen(path, symbols).symbols as unknown as Record<string, NativeFunction | null>;
  } catch (cause) {
    if (cause instanceof Deno.errors.NotCapable) throw cause;
    throw cannotLoad(path, (cause as Error).message.replace(/^(Could not open library: )+/, ""), {
      cause,
      hint:
        `it may lack a library that it needs, or lie where nothing may be run (noexec): ${REBUILD}, or name ` +
        "another with --library or LLMTS_LIBRARY_PATH",
    });
  }
}

function cannotLoad(path: string, reason: string, options: { hint: string; cause?: unknown }): LlmtsError {
  return new LlmtsError(`The kernel library "${path}" can't be loaded: ${reason}`, options);
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
  const opened = library(path, openNative(path, SYMBOLS, false));
  loaded.set(path, opened);
  return opened;
}

const loadedForDevice = new Map<string, DeviceLibrary>();

function openDeviceLibrary(path: string): DeviceLibrary {
  const known = loadedForDevice.get(path);
  if (known !== undefined) return known;
  const opened = library(path, openNative(path, deviceInterface(), true), (parameter) => {
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
