/**
 * The CUDA kernels without a GPU: the same sources, compiled for the host against an emulation of the CUDA execution
 * model, compared with plain loops and with PyTorch's fixtures.
 */
import { assertEquals, assertMatch } from "@std/assert";
import { join } from "@std/path";
import { build, EMULATED, run, SANITIZER_ENV, succeed } from "./build.ts";

/** Orders in which threads and warps take turns, see kernels/cuda/emulation/worker.cpp. */
const SEEDS = ["0", "1", "2", "3", "7"];

Deno.test("CUDA kernels equal plain loops, whatever order threads run in (emulated)", async () => {
  await build("cuda_checks");
  const seeds = SEEDS.flatMap((seed) => ["--seed", seed]);
  const output = await succeed(join(EMULATED, "cuda_checks"), seeds);
  assertEquals(output.match(/^ok /gm)?.length, 15 * SEEDS.length);
});

for (const [sanitizer, name] of [["address", "AddressSanitizer, UBSan"], ["thread", "ThreadSanitizer"]]) {
  Deno.test(`CUDA kernels give ${name} nothing to report (emulated)`, async () => {
    await build(`cuda_checks_${sanitizer}`);
    const { code, output } = await run(
      join(EMULATED, `cuda_checks_${sanitizer}`),
      ["--seed", "3"],
      SANITIZER_ENV,
    );
    assertEquals({
      code,
      report: output.match(/(ERROR|WARNING): \w+Sanitizer[^\n]*|runtime error[^\n]*/)?.[0],
    }, {
      code: 0,
      report: undefined,
    }, output.slice(0, 3000));
  });
}

for (const seed of ["0", "3"]) {
  Deno.test(`ops and whole models agree with PyTorch on CUDA kernels, seed ${seed} (emulated)`, async () => {
    await build("llmts_cuda_emulated");
    const names = ["ffi/accumulate", "ffi/bf16", "ffi/door", "ffi/ops", "ffi/large_shapes", "model"];
    const tests = names.map((name) => `tests/${name}_test.ts`);
    const output = await succeed(Deno.execPath(), ["test", "--allow-all", "--no-check", ...tests], {
      LLMTS_TEST_LIBRARY: join(EMULATED, "libllmts_cuda_emulated.so"),
      LLMTS_EMULATION_SEED: seed,
    });
    assertMatch(output, /\(emulated\) \.\.\. ok/);
  });
}
