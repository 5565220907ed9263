/**
 * Times training steps of llmts and prints one JSON object: milliseconds of each step's parts, and the peak of resident
 * memory. bench/main.ts runs it, alternately with bench/pytorch_bench.py, which prints the same for PyTorch.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { openDevice } from "../ffi/device.ts";
import { int32 } from "../ffi/tensor.ts";
import { allocateActivationGradients, allocateActivations } from "../src/activations.ts";
import { ADAMW_DEFAULTS, createAdamW } from "../src/adamw.ts";
import { loadModel } from "../src/load.ts";
import { backward, forward, type Precision } from "../src/model.ts";
import { allocateParameters } from "../src/parameters.ts";
import { Random } from "../src/random.ts";

/** What is timed, and what comes out. */
export interface StepTimes {
  /** Milliseconds of each counted step. */
  readonly forward: readonly number[];
  readonly backward: readonly number[];
  readonly optimizer: readonly number[];
  readonly total: readonly number[];
  readonly peakBytes: number;
}

/** The peak of this process's resident memory, or 0 where the system does not say. */
function peakBytes(): number {
  try {
    return 1024 * Number(/VmHWM:\s+(\d+) kB/.exec(Deno.readTextFileSync("/proc/self/status"))?.[1] ?? 0);
  } catch {
    return 0;
  }
}

/** Runs `steps` steps after `warmup` uncounted ones, on random tokens. */
export function timeSteps(
  name: string,
  B: number,
  T: number,
  { threads, steps, warmup, precision }: {
    threads: number;
    steps: number;
    warmup: number;
    precision: Precision;
  },
): StepTimes {
  const device = openDevice({ threads });
  const model = loadModel(name, device, { precision });
  const { config } = model;
  const shape = { B, T, precision, training: true };
  const a = allocateActivations(config, device, shape);
  const d = allocateActivationGradients(config, device, shape);
  const g = allocateParameters(config, device, "fp32");
  const optimizer = createAdamW(model);
  const [tokens, targets] = [device.tensor("int32", [B, T]), device.tensor("int32", [B, T])];
  const random = new Random(1);
  for (const ids of [tokens, targets]) {
    int32(ids).forEach((_, i, ids) => ids[i] = random.randint32() % config.V);
  }

  const times = {
    forward: [] as number[],
    backward: [] as number[],
    optimizer: [] as number[],
    total: [] as number[],
  };
  for (let step = 0; step < warmup + steps; step++) {
    const marks = [performance.now()];
    device.ops.zero(g.flat);
    forward(model, a, tokens);
    marks.push(performance.now());
    backward(model, a, d, g, tokens, targets); // with the classifier, whose forward and backward are one pass
    marks.push(performance.now());
    optimizer.update(g, { ...ADAMW_DEFAULTS, learningRate: 1e-4, weightDecay: 0.1, gradScale: 1 });
    marks.push(performance.now());
    if (step < warmup) continue;
    const [start, forwarded, backwarded, end] = marks as [number, number, number, number];
    times.forward.push(forwarded - start);
    times.backward.push(backwarded - forwarded);
    times.optimizer.push(end - backwarded);
    times.total.push(end - start);
  }
  return { ...times, peakBytes: peakBytes() };
}

if (import.meta.main) {
  const { bf16, _: [name = "d12", B = 4, T = 64, threads = 0, steps = 5, warmup = 2] } = parseArgs(
    Deno.args,
    {
      boolean: ["bf16"],
    },
  );
  const counts = { threads: Number(threads), steps: Number(steps), warmup: Number(warmup) };
  const precision = bf16 ? "bf16" : "fp32";
  console.log(JSON.stringify(timeSteps(String(name), Number(B), Number(T), { ...counts, precision })));
}
