/** The CPU library's variants: all products of small sizes, agreement with Eigen, and AMX without AMX. */
import { assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import type { Device } from "../../ffi/device.ts";
import { runnableVariants } from "../../ffi/library.ts";
import { openDevice } from "../../ffi/device.ts";
import { float32, type Tensor } from "../../ffi/tensor.ts";
import { ROOT, run, succeed } from "../cuda/build.ts";
import { openVariant } from "../devices.ts";
import { assertClose, normalTensors } from "../ffi/op_case.ts";

const VARIANTS = runnableVariants(openDevice().info());

let built: Promise<string> | undefined;

/** The program of matmul_sweep.cpp. */
function sweep(): Promise<string> {
  built ??= (async () => {
    const program = join(ROOT, "build", "matmul_sweep");
    const source = join("tests", "cpu", "matmul_sweep.cpp");
    await succeed("c++", ["-O3", "-std=c++17", "-Wall", "-Ikernels", "-o", program, source, "-ldl"]);
    return program;
  })();
  return built;
}

/** Runs all products of sizes up to `most`. */
async function assertSweep(library: string, most: number, precision: string): Promise<void> {
  const { code, output } = await run(await sweep(), [library, String(most), precision]);
  assertEquals({ code, output: output.trim() }, { code: 0, output: `${3 * most ** 3} products, 0 wrong` });
}

for (const variant of VARIANTS) {
  for (const precision of ["fp32", "bf16"]) {
    Deno.test(`matmul of every size in 1 … 70 equals plain loops (${variant}, ${precision})`, async () => {
      await assertSweep(openVariant(variant, 1).library.path, 70, precision);
    });
  }
}

/** The three products of a layer of N rows, C and OC channels. */
function products(device: Device, N: number, C: number, OC: number): Record<string, Float32Array> {
  const normal = normalTensors(device, 3);
  const [x, weight, bias, dout] = [normal(N, C), normal(OC, C), normal(OC), normal(N, OC)];
  const [out, dx, dweight] = [normal(N, OC), normal(N, C), normal(OC, C)];
  device.ops.matmul(out, x, weight, bias);
  device.ops.matmulDinput(dx, dout, weight);
  device.ops.matmulDweight(dweight, dout, x);
  return { out: float32(out), dx: float32(dx), dweight: float32(dweight) };
}

for (const variant of VARIANTS.filter((variant) => variant !== "v2")) {
  Deno.test(`fp32 matmul agrees with Eigen to 1e-5 (${variant})`, () => {
    for (const [N, C, OC] of [[256, 768, 2304], [129, 1000, 777]] as const) {
      const eigen = products(openVariant("v2", 2), N, C, OC);
      for (const [name, values] of Object.entries(products(openVariant(variant, 2), N, C, OC))) {
        assertClose(values, eigen[name]!, 1e-5, `${name} of N ${N}, C ${C}, OC ${OC}`);
      }
    }
  });
}

Deno.test({
  name: Deno.build.arch === "x86_64"
    ? "AMX kernels agree with PyTorch and with plain loops (emulated)"
    : "AMX kernels agree with PyTorch and with plain loops (emulated; skipped: no x86-64 processor)",
  ignore: !VARIANTS.includes("bf16"),
  fn: async () => {
    await succeed("cmake", ["--build", join("build", "cmake"), "--target", "llmts_cpu_amx_emulated"]);
    const library = join(ROOT, "build", "lib-emulated", "libllmts_cpu_amx_emulated.so");
    await assertSweep(library, 36, "bf16");
    const tests = ["bf16_test.ts", "ops_test.ts", "large_shapes_test.ts"].map((test) => `tests/ffi/${test}`);
    const args = ["test", "--allow-all", "--no-check", ...tests, "tests/model_test.ts"];
    const output = await succeed(Deno.execPath(), args, { LLMTS_TEST_LIBRARY: library });
    assertMatch(output, /\(amx-emulated\) \.\.\. ok/);
    // A row's sums are the same in whole tiles and in parts of one, over several blocks of depth.
    const device = openDevice({ library, threads: 1 });
    const [N, C, OC] = [40, 2000, 40];
    const normal = normalTensors(device, 4);
    const inBf16 = (wide: Tensor): Tensor => {
      const narrow = device.tensor("bf16", wide.shape);
      device.ops.convert(narrow, wide);
      return narrow;
    };
    const [x, weight] = [inBf16(normal(N, C)), inBf16(normal(OC, C))];
    const product = (rows: number): Float32Array => {
      const out = device.tensor("fp32", [rows, OC]);
      device.ops.matmul(out, { ...x, shape: [rows, C] }, weight, null);
      return float32(out);
    };
    assertEquals(product(3), product(N).subarray(0, 3 * OC));
  },
});

Deno.test({
  name: VARIANTS.includes("amx") || !VARIANTS.includes("bf16")
    ? "the AMX library says that there are no tiles, where there are none (skipped: needs AVX512-BF16 without AMX)"
    : "the AMX library says that there are no tiles, where there are none",
  ignore: VARIANTS.includes("amx") || !VARIANTS.includes("bf16"),
  fn: async () => {
    const library = join(ROOT, "build", "lib", "libllmts_cpu_amx.so");
    const { code, output } = await run(await sweep(), [library, "2", "bf16"]);
    assertEquals(code, 1);
    assertMatch(output, /wrong: forward N 2 C 1 OC 1, status 3\n/); // LLMTS_UNSUPPORTED; one row takes no tiles
  },
});
