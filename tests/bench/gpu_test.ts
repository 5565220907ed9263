import { assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { LLMTS } from "../../bench/cases.ts";
import { bf16Peak, COMPILED_FLASH, EAGER_FLASH, gpuReport } from "../../bench/gpu_report.ts";
import { build, EMULATED, succeed } from "../cuda/build.ts";
import { NO_GPU } from "../gpu/gpu.ts";

const RUN = {
  model: "d12",
  B: 2,
  T: 500,
  precision: "bf16",
  flopsPerToken: 1e9,
  card: "NVIDIA H100 80GB HBM3",
  reachedPeak: 7e14,
};

Deno.test("gpuReport() gives tokens a second, their share of the card's peak, and what the goals came to", () => {
  const text = gpuReport({
    ...RUN,
    measured: [
      { name: LLMTS, rounds: [[2, 2], [2, 2]] },
      { name: EAGER_FLASH, rounds: [], failed: "out of memory" },
      { name: COMPILED_FLASH, rounds: [[2, 2], [2.1, 2.1]] },
    ],
  });
  // 1000 tokens in 2 ms are 500,000 a second and 0.5 PFLOP/s, of 0.9895.
  assertMatch(text, /^\| llmts +\| 2\.00 ms +\| 500,000 +\| 50\.5 % \| +\|$/m);
  assertMatch(text, /^\| PyTorch eager, flash attention +\| out of memory +\|/m);
  assertMatch(
    text,
    /^\| PyTorch compiled, flash attention \| 2\.10 ms +\| 487,805 +\| 49\.3 % \| 1\.02× +\|$/m,
  );
  assertStringIncludes(
    text,
    "1.1 times compiled PyTorch: not reached (1.02); an MFU of 50.0 %: reached (50.5 %)",
  );
});

Deno.test("gpuReport() says what MFU is of where the card's peak is not known, and judges no goal then", () => {
  const text = gpuReport({
    ...RUN,
    card: "NVIDIA Some Card",
    measured: [{ name: LLMTS, rounds: [[2]] }, { name: COMPILED_FLASH, rounds: [[2]] }],
  });
  assertStringIncludes(text, "MFU is of 700.0 TFLOP/s, what a large matmul of llmts reached");
  assertEquals(text.includes("Goal"), false);
});

Deno.test("bf16Peak() knows cards by the driver's names", () => {
  const names = [
    "NVIDIA A100-SXM4-80GB",
    "NVIDIA H100 PCIe",
    "NVIDIA H200",
    "NVIDIA L4",
    "NVIDIA GeForce RTX 2080",
  ];
  assertEquals(names.map(bf16Peak), [312e12, 756e12, 989.5e12, 121e12, undefined]);
});

Deno.test({
  name: `bench/gpu.ts says why it is skipped without a card${NO_GPU === undefined ? ": there is one" : ""}`,
  ignore: NO_GPU === undefined,
  fn: async () => {
    const output = await succeed(Deno.execPath(), ["run", "-A", "bench/gpu.ts"]);
    assertEquals(output, `skipped: ${NO_GPU}\n`);
  },
});

Deno.test("bench/gpu.ts measures llmts' steps (emulated)", async () => {
  await build("llmts_cuda_emulated");
  const sizes = ["--model", "small", "--batch-size", "1", "--seq-len", "8", "--rounds", "1", "--steps", "1"];
  const output = await succeed(Deno.execPath(), ["run", "-A", "bench/gpu.ts", ...sizes], {
    LLMTS_LIBRARY_PATH: join(EMULATED, "libllmts_cuda_emulated.so"),
  });
  assertMatch(output, /^\| llmts +\| [\d.]+ ms +\| [\d,]+ +\|/m);
  assertMatch(output, /^\| PyTorch compiled/m);
});
