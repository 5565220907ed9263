/**
 * Measures training steps of llmts on a GPU beside PyTorch's on the same card, in turn. `deno task bench:gpu`; needs no network;
 * says `skipped: why` where there is no card. PyTorch is left out where it is missing or has no CUDA.
 *
 * @module
 */
import { dirname, fromFileUrl, join } from "@std/path";
import { defineCommand } from "../commands/command.ts";
import { exitCode } from "../commands/dispatch.ts";
import { ENGINE_FLAGS } from "../commands/engine.ts";
import { type Device, openDevice } from "../ffi/device.ts";
import { presetConfig } from "../src/config.ts";
import { LlmtsError } from "../src/errors.ts";
import { measurePeak, trainingFlops } from "../src/flops.ts";
import { LLMTS } from "./cases.ts";
import { COMPILED_FLASH, EAGER_FLASH, type GpuMeasured, gpuReport } from "./gpu_report.ts";
import { SMALL } from "./models.ts";
import { type Server, startServer } from "./serve.ts";

const ROOT = join(dirname(fromFileUrl(import.meta.url)), "..");
const USAGE = "deno task bench:gpu";
/** A program that is measured. */
interface Contestant {
  readonly name: string;
  readonly start: () => Server;
}

/** Turns of each, one after the other; who fails is out. */
async function measure(
  contestants: readonly Contestant[],
  { rounds, steps }: { rounds: number; steps: number },
): Promise<GpuMeasured[]> {
  const servers = contestants.map(({ start }) => start());
  const taken = contestants.map(({ name }) => ({ name, rounds: [] as (readonly number[])[] }));
  const failed = new Map<string, string>();
  try {
    for (let round = 0; round < rounds; round++) {
      for (const [i, { name }] of contestants.entries()) {
        if (failed.has(name)) continue;
        try {
          // The first turn compiles and chooses algorithms.
          const { times } = await servers[i]!.turn({ warmup: round === 0 ? 10 : 2, counted: steps });
          taken[i]!.rounds.push(times.total!);
        } catch (error) {
          if (!(error instanceof LlmtsError)) throw error;
          failed.set(name, error.message);
        }
      }
    }
  } finally {
    await Promise.all(servers.map((server) => server.close()));
  }
  return taken.map((each) => {
    const why = failed.get(each.name);
    return why === undefined ? each : { ...each, failed: why };
  });
}

/** The GPU, or why there is none. */
function openGpu(): Device | string {
  try {
    return openDevice({ device: "cuda" });
  } catch (error) {
    if (error instanceof LlmtsError) return error.message;
    throw error;
  }
}

const command = defineCommand({
  flags: {
    model: {
      type: "string",
      value: "NAME",
      default: "d12",
      description: "a preset, or small",
      group: "What",
    },
    batchSize: { type: "integer", value: "B", min: 1, default: 16, description: "sequences", group: "What" },
    seqLen: {
      type: "integer",
      value: "T",
      min: 1,
      default: 1024,
      description: "tokens in each",
      group: "What",
    },
    precision: { ...ENGINE_FLAGS.precision, default: "bf16", group: "What" },
    rounds: { type: "integer", value: "N", min: 1, default: 4, description: "turns of each", group: "What" },
    steps: {
      type: "integer",
      value: "N",
      min: 1,
      default: 20,
      description: "steps in a turn",
      group: "What",
    },
  },
  details: ["Without a GPU it says so and measures nothing. LLMTS_LIBRARY_PATH names another CUDA library."],
  examples: [`${USAGE} --batch-size 8`],
  async run({ model, batchSize: B, seqLen: T, precision, rounds, steps }): Promise<number> {
    const config = model === "small" ? SMALL : presetConfig(model);
    const device = openGpu();
    if (typeof device === "string") {
      console.log(`skipped: ${device}`);
      return 0;
    }
    const { device: card } = device.info();
    const reachedPeak = measurePeak(device, precision);

    const sizes = [model, String(B), String(T), precision];
    const python = (name: string, ...more: string[]): Contestant => ({
      name,
      start: () => startServer("python3", ["bench/pytorch_gpu.py", ...sizes, ...more], ROOT),
    });
    const measured = await measure([
      {
        name: LLMTS,
        start: () => startServer(Deno.execPath(), ["run", "-A", "bench/gpu_step.ts", ...sizes], ROOT),
      },
      python(EAGER_FLASH),
      python(COMPILED_FLASH, "--compile"),
    ], { rounds, steps });
    const flopsPerToken = trainingFlops(config, T);
    console.log(gpuReport({ model, B, T, precision, flopsPerToken, card, reachedPeak, measured }));
    const failed = measured[0]?.failed;
    if (failed !== undefined) throw new LlmtsError(`llmts failed: ${failed}`);
    return 0;
  },
});

if (import.meta.main) {
  const summary = "measure training steps on a GPU beside PyTorch's";
  Deno.exitCode = await exitCode(Deno.args, () => command.execute(USAGE, summary, Deno.args));
}
