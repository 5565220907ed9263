/**
 * Times training steps of llmts, in turns (bench/serve.ts):
 *
 *     deno run -A bench/train_step.ts MODEL B T THREADS PRECISION [ops|total [RECOMPUTE]]
 *
 * With `ops` it also times each op; RECOMPUTE is a level of `llmts train --recompute`. Gradients are not clipped, as in bench/pytorch_bench.py, but their norm is timed.
 *
 * @module
 */
import { openDevice } from "../ffi/device.ts";
import { allocateActivations, type RecomputeLevel } from "../src/activations.ts";
import { ADAMW_DEFAULTS, createAdamW } from "../src/adamw.ts";
import { backward, forward, type Precision } from "../src/model.ts";
import { allocateParameters } from "../src/parameters.ts";
import { benchModel, randomTokens } from "./models.ts";
import { mergeTakes, recordOps } from "./recorder.ts";
import { repetitions, serve, type Turn, type TurnResult } from "./serve.ts";

/** What steps are made of. */
export interface StepOptions {
  readonly B: number;
  readonly T: number;
  readonly threads: number;
  readonly precision: Precision;
  /** Whether to time each op. */
  readonly ops: boolean;
  readonly recompute?: RecomputeLevel | undefined;
}

/** Gets ready to train a model on random tokens; each call is a turn. */
export function prepareSteps(
  name: string,
  { B, T, threads, precision, ops, recompute }: StepOptions,
): (turn: Turn) => Omit<TurnResult, "peakBytes"> {
  const cpu = openDevice({ device: "cpu", threads });
  const recorder = ops ? recordOps(cpu) : undefined;
  const model = { ...benchModel(name, cpu, precision), device: recorder?.device ?? cpu };
  const { config, device } = model;
  const shape = { B, T, precision, training: true as const, recompute };
  const a = allocateActivations(config, device, shape);
  const g = allocateParameters(config, device, "fp32");
  const optimizer = createAdamW(model);
  const tokens = randomTokens(device, B, T, config.V);
  const targets = randomTokens(device, B, T, config.V);
  const constants = { ...ADAMW_DEFAULTS, learningRate: 1e-4, weightDecay: 0.1, gradScale: 1 };

  return (turn) => {
    const times = {
      forward: [] as number[],
      backward: [] as number[],
      optimizer: [] as number[],
      total: [] as number[],
    };
    const takes = [];
    for (const counted of repetitions(turn)) {
      const start = performance.now();
      forward(model, a, tokens);
      const forwarded = performance.now();
      // With the classifier, whose forward and backward are one pass.
      backward(model, a, g, tokens, targets, { accumulate: false });
      const backwarded = performance.now();
      optimizer.update(g, constants);
      const end = performance.now();
      if (recorder !== undefined) device.ops.globalNorm(g.flat);
      const taken = recorder?.take();
      if (!counted) continue;
      times.forward.push(forwarded - start);
      times.backward.push(backwarded - forwarded);
      times.optimizer.push(end - backwarded);
      times.total.push(end - start);
      if (taken !== undefined) takes.push(taken);
    }
    return ops ? { times, ops: mergeTakes(takes) } : { times };
  };
}

if (import.meta.main) {
  const [name = "", B, T, threads, precision, ops, recompute] = Deno.args;
  await serve(prepareSteps(name, {
    B: Number(B),
    T: Number(T),
    threads: Number(threads),
    precision: precision as Precision,
    ops: ops === "ops",
    recompute: recompute as RecomputeLevel | undefined,
  }));
}
