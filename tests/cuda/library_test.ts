/**
 * The CUDA library as nvcc builds it (`deno task build` does, where nvcc is): what it exports and needs, and what it says on
 * a machine without a driver. Nothing here runs on a GPU.
 */
import { assert, assertEquals, assertMatch, assertStringIncludes, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { openDevice } from "../../ffi/device.ts";
import { DEVICE_SYMBOLS } from "../../ffi/device_symbols.ts";
import { SYMBOLS } from "../../ffi/symbols.ts";
import { LlmtsError } from "../../src/errors.ts";
import { isInstalled, ROOT, run, succeed } from "./build.ts";

const LIBRARY = join(ROOT, "build", "lib", "libllmts_cuda.so");

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

const built = exists(LIBRARY);
/** A test of the built library; its name says why it is skipped. */
function libraryTest(name: string, condition: boolean, why: string, body: () => void | Promise<void>): void {
  const reason = !built
    ? (isInstalled("nvcc") ? "the CUDA library is not built" : "nvcc is not installed")
    : why;
  const ignore = !built || !condition;
  Deno.test({ name: ignore ? `${name}: ${reason}` : name, ignore, fn: body });
}

/** Whether this machine has an NVIDIA driver: its kernel module makes this file. */
const hasDriver = exists("/proc/driver/nvidia/version");

libraryTest(
  "the CUDA library exports the functions of abi.h and abi_device.h alone",
  isInstalled("nm"),
  "nm is not installed",
  async () => {
    const names = (await succeed("nm", ["-D", "--defined-only", LIBRARY])).matchAll(/ [A-Z] (\w+)/g);
    assertEquals(
      [...names].map(([, name]) => name!).sort(),
      [...Object.keys(SYMBOLS), ...Object.keys(DEVICE_SYMBOLS)].sort(),
    );
  },
);

libraryTest(
  "the CUDA library needs no library of CUDA to load",
  isInstalled("readelf"),
  "readelf is not installed",
  async () => {
    const needed = (await succeed("readelf", ["-d", LIBRARY])).matchAll(/NEEDED\).*\[(.*?)\]/g);
    const others = [...needed].map(([, name]) => name!).filter((name) =>
      !/^(lib(c|m|dl|pthread|rt)|ld-linux.*)\.so/.test(name)
    );
    assertEquals(others, []);
  },
);

libraryTest("openDevice() says that there is no driver", !hasDriver, "this machine has a driver", () => {
  const error = assertThrows(() => openDevice({ device: "cuda" }), LlmtsError);
  assertStringIncludes(error.message, "The GPU can't be used: no NVIDIA driver was found");
  assertEquals(error.hint, "use --device cpu");
  assertEquals(openDevice().kind, "cpu"); // auto
});

libraryTest("openDevice() refuses the CUDA library in place of the CPU's", true, "", () => {
  const error = assertThrows(() => openDevice({ device: "cpu", library: LIBRARY }), LlmtsError);
  assertEquals(error.message, `The kernel library "${LIBRARY}" is the GPU's, expected the CPU's`);
  assertStringIncludes(error.hint ?? "", "--device cuda takes it");
});

libraryTest(
  "llmts train --device cuda ends with one line and exit 1 without a driver",
  !hasDriver,
  "this machine has a driver",
  async () => {
    for (
      const command of [["train", "--steps", "1"], ["verify", "--model", "tests/fixtures/models/odd.bin"]]
    ) {
      const { code, output } = await run(Deno.execPath(), [
        "run",
        "-A",
        "cli.ts",
        ...command,
        "--device",
        "cuda",
      ]);
      assertEquals(code, 1, output);
      assertMatch(output, /^llmts: The GPU can't be used: no NVIDIA driver was found.*$/m);
      assert(!output.includes("    at "), output); // no stack trace
    }
  },
);

Deno.test("openDevice() names where it looked for a CUDA library", () => {
  const folder = Deno.makeTempDirSync();
  try {
    const error = assertThrows(
      () => openDevice({ device: "cuda", library: folder }),
      LlmtsError,
      "No CUDA library was found",
    );
    assertStringIncludes(error.message, join(folder, "libllmts_cuda.so"));
  } finally {
    Deno.removeSync(folder);
  }
});
