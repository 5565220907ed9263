import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { dirname, join } from "@std/path";
import { openDevice } from "../../ffi/device.ts";
import { elfFault } from "../../ffi/elf.ts";
import { findCudaLibrary, KernelError, loadLibrary, runnableVariants } from "../../ffi/library.ts";
import { int32, rows } from "../../ffi/tensor.ts";
import { LlmtsError, UsageError } from "../../src/errors.ts";
import { ROOT } from "../cuda/build.ts";

/** Runs with environment variables set, and puts back what they were. */
function withEnvironment(variables: Readonly<Record<string, string>>, run: () => void): void {
  const before = Object.keys(variables).map((name) => [name, Deno.env.get(name)] as const);
  for (const [name, value] of Object.entries(variables)) Deno.env.set(name, value);
  try {
    run();
  } finally {
    for (const [name, value] of before) {
      value === undefined ? Deno.env.delete(name) : Deno.env.set(name, value);
    }
  }
}

/** Runs with a folder that holds the shared library made of some C. */
function withLibrary(code: string, run: (path: string) => void): void {
  const folder = Deno.makeTempDirSync({ prefix: "llmts library " });
  try {
    const [source, path] = [join(folder, "library.c"), join(folder, "libllmts_cpu.so")];
    Deno.writeTextFileSync(source, code);
    const { success } = new Deno.Command("cc", { args: ["-shared", "-fPIC", "-o", path, source] })
      .outputSync();
    assert(success, "cc failed");
    run(path);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

Deno.test("loadLibrary() names every place it tried", () => {
  const folder = Deno.makeTempDirSync();
  withEnvironment({ LLMTS_HOME: folder }, () => {
    // The environment's path stands in for all other places, the flag for the environment's.
    withEnvironment({ LLMTS_LIBRARY_PATH: join(folder, "environment") }, () => {
      const fromEnvironment = assertThrows(() => loadLibrary(), LlmtsError);
      assertStringIncludes(fromEnvironment.message, join(folder, "environment"));
      const fromFlag = assertThrows(() => loadLibrary(join(folder, "flag")), LlmtsError);
      assertStringIncludes(fromFlag.message, join(folder, "flag"));
      assert(!fromFlag.message.includes("environment"));
      assertStringIncludes(fromFlag.hint ?? "", "deno task build");
    });
  });
  // A file is tried as it is named, a folder for the library in it.
  for (const [asked, tried] of [["absent.so", "absent.so"], [".", "libllmts_cpu.so"]] as const) {
    const error = assertThrows(() => loadLibrary(join(folder, asked)), LlmtsError);
    assertEquals(error.message, `No kernel library was found; tried "${join(folder, tried)}"`);
  }
  Deno.removeSync(folder);
});

Deno.test({
  name: "loadLibrary() goes on where it may not look",
  permissions: { read: [join(ROOT, "build", "lib")], env: true, ffi: true },
  fn: () =>
    withEnvironment({ LLMTS_HOME: ROOT, LLMTS_LIBRARY_PATH: "" }, () => {
      assertEquals(dirname(loadLibrary().path), join(ROOT, "build", "lib"));
    }),
});

Deno.test("loadLibrary() refuses a library of another ABI version, even one that lacks functions (D-11)", () => {
  withLibrary("int llmts_abi_version(void) { return 999; }", (path) => {
    const error = assertThrows(() => loadLibrary(path), LlmtsError, "ABI version 999");
    assertStringIncludes(error.message, path);
    assertStringIncludes(error.hint ?? "", "deno task build");
  });
});

const linux = Deno.build.os === "linux";
const elf = linux ? "" : " (skipped: libraries are ELF files on Linux only)";
Deno.test({
  name: `loadLibrary() says what is wrong with a library's file, which the system doesn't (D-11)${elf}`,
  ignore: !linux,
  fn: () =>
    withLibrary("int llmts_abi_version(void) { return 999; }", (path) => {
      const whole = Deno.readFileSync(path);
      assertEquals(elfFault(path), undefined);
      const changed = (at: number, byte: number): Uint8Array => whole.with(at, byte);
      const [CLASS, MACHINE] = [4, 0x12];
      const cases: [bytes: Uint8Array, words: string][] = [
        [new Uint8Array(), "its 0 bytes are no shared library of Linux"],
        [
          new TextEncoder().encode("<!DOCTYPE html>".repeat(9)),
          "its 135 bytes are no shared library of Linux",
        ],
        [whole.subarray(0, 63), "its 63 bytes are no shared library of Linux"],
        // Loading these would end the process.
        [whole.subarray(0, 64), `it was cut short, to 64 bytes of ${whole.length}`],
        [whole.subarray(0, whole.length - 1), `it was cut short, to ${whole.length - 1} bytes of`],
        [
          changed(MACHINE, 40),
          `it is for another machine (number 40 in ELF), and this is ${Deno.build.arch}`,
        ],
        [changed(MACHINE, Deno.build.arch === "x86_64" ? 183 : 62), "it is for "],
        [changed(CLASS, 1), "it is for another machine"],
      ];
      for (const [bytes, words] of cases) {
        Deno.writeFileSync(path, bytes);
        const error = assertThrows(() => loadLibrary(path), LlmtsError);
        assertStringIncludes(error.message, `The kernel library "${path}" can't be loaded: ${words}`);
        assertEquals(error.hint, "rebuild it with `deno task build`");
      }
    }),
});

Deno.test("loadLibrary() names a library that the library lacks", () =>
  withLibrary("int needed(void) { return 1; }", (needed) => {
    const path = join(dirname(needed), "needs.so");
    const source = join(dirname(needed), "needs.c");
    Deno.writeTextFileSync(source, "int needed(void); int llmts_abi_version(void) { return needed(); }");
    const { success } = new Deno.Command("cc", { args: ["-shared", "-fPIC", "-o", path, source, needed] })
      .outputSync();
    assert(success, "cc failed");
    Deno.removeSync(needed);
    const error = assertThrows(() => loadLibrary(path), LlmtsError, "libllmts_cpu.so");
    assertStringIncludes(error.hint ?? "", "it may lack a library that it needs");
  }));

const runnable = runnableVariants(loadLibrary().info());
const foreign = ["v3", "v4", "bf16", "amx"].find((variant) => !runnable.includes(variant));
const skipped = Deno.build.arch !== "x86_64"
  ? " (skipped: no x86-64 processor)"
  : foreign === undefined
  ? " (skipped: this processor runs them all)"
  : "";
Deno.test({
  name: `loadLibrary() refuses the file of a variant for other processors${skipped}`,
  ignore: skipped !== "",
  fn: () => {
    const path = join(ROOT, "build", "lib", `libllmts_cpu_${foreign}.so`);
    const error = assertThrows(() => loadLibrary(path), LlmtsError);
    assertEquals(
      error.message,
      `The kernel library "${path}" is variant ${foreign}, but this machine runs ${runnable.join(", ")} only`,
    );
  },
});

Deno.test("openDevice() refuses the CPU's library in place of the GPU's", () => {
  const { path } = loadLibrary();
  assertThrows(
    () => openDevice({ device: "cuda", library: path }),
    LlmtsError,
    `The kernel library "${path}" is the CPU's, expected the GPU's`,
  );
});

Deno.test("loadLibrary() says which library can't be loaded and why", () => {
  withLibrary("int something_else(void) { return 0; }", (path) => {
    assertStringIncludes(assertThrows(() => loadLibrary(path), LlmtsError).message, "llmts_abi_version");
  });
  const text = Deno.makeTempFileSync({ suffix: ".so" });
  Deno.writeTextFileSync(text, "no library");
  assertStringIncludes(assertThrows(() => loadLibrary(text), LlmtsError).message, text);
  Deno.removeSync(text);
});

Deno.test("loadLibrary() takes the best variant this machine runs, or the one LLMTS_CPU_VARIANT names", () => {
  const info = loadLibrary().info();
  if (Deno.build.arch !== "x86_64") assertEquals([info.level, runnableVariants(info)], [0, ["v2"]]);
  const libraries: Record<string, string> = {
    v2: Deno.build.arch === "x86_64" ? "x86-64-v2" : info.variant,
    v3: "x86-64-v3",
    v4: "x86-64-v4",
    bf16: "avx512-bf16",
    amx: "amx",
  };
  assertEquals(info.variant, libraries[runnableVariants(info).at(-1)!]);
  for (const variant of runnableVariants(info)) {
    withEnvironment({ LLMTS_CPU_VARIANT: variant }, () => {
      assertEquals(loadLibrary().info().variant, libraries[variant]);
    });
  }
  for (const wrong of ["v5", "avx2"]) {
    withEnvironment({ LLMTS_CPU_VARIANT: wrong }, () => {
      assertThrows(() => loadLibrary(), UsageError, `LLMTS_CPU_VARIANT is "${wrong}"`);
    });
  }
});

Deno.test("loadLibrary() and openDevice() take an empty variable for none", () => {
  const [expected, device] = [loadLibrary().path, openDevice()];
  withEnvironment({ LLMTS_LIBRARY_PATH: "", LLMTS_CPU_VARIANT: "" }, () => {
    assertEquals(loadLibrary().path, expected);
    assert(findCudaLibrary().tried.every((path) => dirname(path) !== Deno.cwd()));
    assertEquals(openDevice().library.path, device.library.path);
  });
});

Deno.test("runnableVariants() are those whose level and features a machine has, the best last", () => {
  const machine = { device: "", variant: "", threads: 1 };
  const amx = ["avx512_bf16", "avx512_vnni", "amx_bf16"];
  const variants = (level: number, features: string[]) => runnableVariants({ ...machine, level, features });
  assertEquals(variants(0, ["neon"]), ["v2"]);
  assertEquals(variants(1, []), ["v2"]);
  assertEquals(variants(3, []), ["v2", "v3"]);
  assertEquals(variants(4, ["avx512_bf16"]), ["v2", "v3", "v4"]);
  assertEquals(variants(4, amx.slice(0, 2)), ["v2", "v3", "v4", "bf16"]);
  assertEquals(variants(4, amx), ["v2", "v3", "v4", "bf16", "amx"]);
});

Deno.test("openDevice() sets the number of threads", () => {
  for (const threads of [1, 2, 7]) assertEquals(openDevice({ threads }).info().threads, threads);
  const { threads } = openDevice().info();
  assert(threads >= 1 && threads <= navigator.hardwareConcurrency);
  for (const threads of [-1, 1.5, 1025, NaN]) {
    assertThrows(() => openDevice({ threads }), UsageError, String(threads));
  }
});

Deno.test("allocate() gives zeroed memory aligned to 64 bytes", () => {
  const device = openDevice();
  for (const bytes of [0, 1, 100, 65 << 20]) {
    const memory = device.allocate(bytes) as Uint8Array<ArrayBuffer>;
    assertEquals(memory.byteLength, bytes);
    assert(memory.every((byte) => byte === 0));
    if (bytes === 0) continue;
    const address = Deno.UnsafePointer.value(Deno.UnsafePointer.of(memory));
    assertEquals(address % 64n, 0n);
  }
});

Deno.test("allocate() names the bytes that can't be had (D-22)", () => {
  const error = assertThrows(() => openDevice().allocate(2 ** 52), LlmtsError, String(2 ** 52));
  assertStringIncludes(error.hint ?? "", "a smaller model");
});

Deno.test("ops name the op, what is wrong and the shapes", () => {
  const device = openDevice();
  const { ops } = device;
  const tensor = (...shape: number[]) => device.tensor("fp32", shape);
  const error = assertThrows(() => ops.attention(tensor(1, 2, 9), null, tensor(1, 2, 27), 2), KernelError);
  assertEquals([error.op, error.status], ["attention_forward", 1]);
  assertStringIncludes(error.message, "attention_forward failed (invalid argument)");
  assertStringIncludes(error.message, "out (1,2,9) fp32, lse none, qkv (1,2,27) fp32");
  assertThrows(
    () => ops.matmul(tensor(2, 3), tensor(2, 5), tensor(3, 4), null),
    RangeError,
    "Expected x to be rows of 4",
  );
  assertThrows(
    () => ops.matmul(tensor(2, 4), tensor(2, 4), tensor(3, 4), null),
    RangeError,
    "out to be (2,3), found (2,4)",
  );
});

Deno.test("ops with nothing to do succeed (D-03)", () => {
  const device = openDevice();
  const empty = device.tensor("fp32", [0, 4]);
  device.ops.matmul(device.tensor("fp32", [0, 3]), empty, device.tensor("fp32", [3, 4]), null);
  device.ops.gelu(empty, empty);
  assertEquals(device.ops.globalNorm(empty), 0);
});

Deno.test("ops take token ids inside the vocabulary only (A-08)", () => {
  const device = openDevice();
  const tokens = rows(device.tensor("int32", [1, 2]), 0, 1);
  const wte = device.tensor("fp32", [8, 4]);
  for (const id of [5, 7, -1, 65535]) {
    int32(tokens)[1] = id;
    const run = (): void =>
      device.ops.embedding(device.tensor("fp32", [1, 2, 4]), tokens, wte, device.tensor("fp32", [2, 4]), 5);
    assertStringIncludes(assertThrows(run, KernelError).message, String(id));
  }
});

Deno.test("a process that used the library's threads ends quietly (D-18)", async () => {
  const code = `
    import { openDevice } from "./ffi/device.ts";
    const { ops, tensor } = openDevice({ threads: 2 });
    ops.matmul(tensor("fp32", [512, 512]), tensor("fp32", [512, 512]), tensor("fp32", [512, 512]), null);
  `;
  const root = join(import.meta.dirname!, "..", "..");
  const command = new Deno.Command(Deno.execPath(), {
    args: ["eval", "--ext=ts", code],
    cwd: root,
    stderr: "piped",
  });
  const { code: status, signal, stderr } = await command.output();
  assertEquals({ status, signal, stderr: new TextDecoder().decode(stderr) }, {
    status: 0,
    signal: null,
    stderr: "",
  });
});
