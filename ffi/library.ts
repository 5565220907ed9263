/**
 * Finds, loads and checks a kernel library, and turns its statuses into errors. Nothing is loaded at import.
 *
 * @module
 */
import { dirname, fromFileUrl, join, resolve } from "@std/path";
import { LlmtsError, UsageError } from "../src/errors.ts";
import { describe, type Tensor } from "./tensor.ts";
import { ABI_VERSION, type SymbolName, SYMBOLS } from "./symbols.ts";

/** What a library says of itself and its machine (llmts_device_info). */
export interface DeviceInfo {
  readonly device: string;
  /** What the library was built for: `x86-64-v2` … `x86-64-v4`, `aarch64`. */
  readonly variant: string;
  /** The highest x86-64 level the machine runs, 1 … 4; 0 on other machines. */
  readonly level: number;
  readonly features: readonly string[];
  readonly threads: number;
}

type Native = Deno.DynamicLibrary<typeof SYMBOLS>["symbols"];

/** A loaded kernel library. */
export interface Library {
  readonly path: string;
  /** Calls a function; `tensors`, by name, are only for the words of a {@linkcode KernelError}. */
  readonly call: <Name extends SymbolName>(
    name: Name,
    tensors: Readonly<Record<string, Tensor | null>>,
    ...parameters: Parameters<Native[Name]>
  ) => void;
  info(): DeviceInfo;
}

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

  constructor(
    readonly op: string,
    readonly status: number,
    text: string,
    tensors: Readonly<Record<string, Tensor | null>>,
  ) {
    const given = Object.entries(tensors).map(([name, tensor]) => `${name} ${describe(tensor)}`).join(", ");
    super(`${op} failed (${STATUS[status] ?? `status ${status}`}): ${text}${given && ` [${given}]`}`);
  }
}

/** File names of the CPU library's variants by x86-64 level, the base first; each machine has at least the base. */
const VARIANTS: readonly { level: number; suffix: string }[] = [
  { level: 2, suffix: "" },
  { level: 3, suffix: "_v3" },
  { level: 4, suffix: "_v4" },
];

function libraryFile(suffix: string): string {
  const extension = { darwin: "dylib", windows: "dll" }[Deno.build.os as string] ?? "so";
  return `${Deno.build.os === "windows" ? "" : "lib"}llmts_cpu${suffix}.${extension}`;
}

/** Folders that may hold the libraries, in the order they are tried, with the reason each is. */
function libraryFolders(): string[] {
  const home = Deno.env.get("LLMTS_HOME");
  const module = import.meta.url.startsWith("file:") ? dirname(fromFileUrl(import.meta.url)) : undefined;
  return [
    ...(home ? [join(home, "lib")] : []),
    ...(module ? [join(module, "..", "build", "lib")] : []),
    dirname(Deno.execPath()),
  ];
}

function isFile(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

const loaded = new Map<string, Library>();

/**
 * Loads the CPU library, the best variant for this machine. Looked for in this order: `path` (the `--library` flag), the
 * environment's LLMTS_LIBRARY_PATH (each a file or a folder), beside the module, beside the executable. LLMTS_CPU_VARIANT
 * (`v2`, `v3`, `v4`) asks for one variant. A library is loaded once and never unloaded: it owns threads.
 *
 * @throws {LlmtsError} none was found (all tried paths are named), or it is of another ABI version
 */
export function loadLibrary(path?: string): Library {
  const asked = path ?? Deno.env.get("LLMTS_LIBRARY_PATH");
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
  const { level } = base.info();
  const forced = Deno.env.get("LLMTS_CPU_VARIANT");
  if (forced !== undefined) {
    const variant = VARIANTS.find((variant) => `v${variant.level}` === forced);
    if (variant === undefined || variant.level > Math.max(level, 2)) {
      throw new UsageError(
        `LLMTS_CPU_VARIANT is "${forced}", but this machine runs ${
          level < 2 ? "the base" : `v2 … v${level}`
        } only`,
      );
    }
    return open(join(folder, libraryFile(variant.suffix)));
  }
  const best = VARIANTS.findLast((variant) =>
    variant.level <= level && isFile(join(folder, libraryFile(variant.suffix)))
  );
  return best === undefined ? base : open(join(folder, libraryFile(best.suffix)));
}

function open(path: string): Library {
  const known = loaded.get(path);
  if (known !== undefined) return known;
  const load = <Symbols extends Deno.ForeignLibraryInterface>(
    symbols: Symbols,
  ): Deno.DynamicLibrary<Symbols>["symbols"] => {
    try {
      return Deno.dlopen(path, symbols).symbols;
    } catch (cause) {
      throw new LlmtsError(`The kernel library "${path}" can't be loaded: ${(cause as Error).message}`, {
        cause,
        hint:
          "it may be of another machine, or lack a library that it needs: rebuild it with `deno task build`",
      });
    }
  };
  // The version first: a library of another one may lack functions.
  const version = load({ llmts_abi_version: SYMBOLS.llmts_abi_version }).llmts_abi_version();
  if (version !== ABI_VERSION) {
    throw new LlmtsError(
      `The kernel library "${path}" has ABI version ${version}; this llmts needs ${ABI_VERSION}`,
      {
        hint: "rebuild it with `deno task build`",
      },
    );
  }
  const native = load(SYMBOLS);
  const read = (symbol: "llmts_last_error" | "llmts_device_info"): string => {
    const text = new Uint8Array(4096);
    const length = new BigInt64Array(1);
    native[symbol](text, length, BigInt(text.length));
    return new TextDecoder().decode(text.subarray(0, Number(length[0])));
  };
  const library: Library = {
    path,
    call(name, tensors, ...parameters): void {
      const status = (native[name] as (...parameters: unknown[]) => number)(...parameters);
      if (status !== 0) {
        throw new KernelError(name.replace("llmts_", ""), status, read("llmts_last_error"), tensors);
      }
    },
    info: () => JSON.parse(read("llmts_device_info")) as DeviceInfo,
  };
  loaded.set(path, library);
  return library;
}
