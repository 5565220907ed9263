/**
 * The suites of ops and models on the GPU, and ops under NVIDIA's compute-sanitizer.
 */
import { assertMatch } from "@std/assert";
import { isInstalled, run, succeed } from "../cuda/build.ts";
import { gpuTest, ON_GPU } from "./gpu.ts";

/** Each file's tests, in a process of their own. */
const SUITES = [
  "tests/ffi/accumulate_test.ts",
  "tests/ffi/bf16_test.ts",
  "tests/ffi/ops_test.ts",
  "tests/ffi/large_shapes_test.ts",
  "tests/model_test.ts",
  "tests/recompute_test.ts",
  "tests/verify_test.ts",
  "tests/generate_test.ts",
  "tests/trainer_test.ts",
  "tests/cuda/device_test.ts",
];
const TEST = ["test", "--allow-all", "--no-check"];

for (const suite of SUITES) {
  gpuTest(`${suite} passes on the GPU`, undefined, async () => {
    assertMatch(await succeed(Deno.execPath(), [...TEST, suite], ON_GPU), /\d+ passed \| 0 failed/);
  });
}

const sanitizer = isInstalled("compute-sanitizer") ? undefined : "compute-sanitizer is not installed";
for (const tool of ["memcheck", "racecheck", "initcheck"]) {
  gpuTest(`compute-sanitizer's ${tool} has nothing to report of the ops' fixtures`, sanitizer, async () => {
    const options = ["--tool", tool, "--target-processes", "all", "--error-exitcode", "9"];
    const tests = [Deno.execPath(), ...TEST, "tests/ffi/ops_test.ts", "tests/ffi/accumulate_test.ts"];
    assertMatch(
      await succeed("compute-sanitizer", [...options, ...tests], ON_GPU),
      tool === "racecheck" ? /RACECHECK SUMMARY: 0 hazards/ : /ERROR SUMMARY: 0 errors/,
    );
  });
}

gpuTest("llmts train and llmts sample run on the GPU", undefined, async () => {
  const folder = Deno.makeTempDirSync();
  try {
    const cli = async (...args: string[]) => {
      const { code, output } = await run(Deno.execPath(), [
        "run",
        "-A",
        "cli.ts",
        ...args,
        "--device",
        "cuda",
      ]);
      assertMatch(`${code} ${output}`, /^0 /);
    };
    await cli("train", "--model", "d2", "--steps", "3", "--precision", "bf16", "--out", folder);
    await cli("sample", "--model", folder, "--tokens", "8", "--seed", "1");
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});
