/**
 * The lines that `llmts train` prints, in the manner of llm.cpp.
 *
 * @module
 */
import type { DeviceInfo } from "../ffi/library.ts";
import type { GPT2Config } from "../src/config.ts";
import type { MemoryPlan } from "../src/memory.ts";
import { parameterCount } from "../src/parameters.ts";
import { formatBytes, formatDuration, formatRate } from "./format.ts";

/** The model's sizes, and what it will run on. */
export function modelLines(
  config: GPT2Config,
  memory: MemoryPlan,
  run: { info: DeviceInfo; precision: string },
): string[] {
  const { info, precision } = run;
  return [
    "[GPT-2]",
    `max_seq_len: ${config.maxT}`,
    `vocab_size: ${config.V}`,
    `padded_vocab_size: ${config.Vp}`,
    `num_layers: ${config.L}`,
    `num_heads: ${config.NH}`,
    `channels: ${config.C}`,
    `num_parameters: ${parameterCount(config)} (${formatBytes(memory.parameters)})`,
    `num_activations: ${memory.activationCount} (${formatBytes(memory.activations)})`,
    `memory: ${formatBytes(memory.total)} with gradients and optimizer`,
    `device: ${info.device}, ${info.variant}, ${precision}, ${info.threads} thread${
      info.threads === 1 ? "" : "s"
    }`,
  ];
}

/** A validation: losses compare only at the same T and tokens, so both are said. */
export function validationLine({ loss, tokens }: { loss: number; tokens: number }, T: number): string {
  return `val loss ${loss.toFixed(6)} (${tokens} tokens, T=${T})`;
}

/** When each step ended: gives pace, time remaining and the closing average. */
export interface Pace {
  /** Notes a step that took so long. */
  add(milliseconds: number): void;
  /** The step's line. `step` counts from 1. */
  line(step: number, loss: number): string;
  /** Mean time of a step without the first, which also warms up; undefined before there is a second. */
  closing(): string | undefined;
}

/**
 * Keeps time over a run.
 *
 * @param steps steps in the whole run
 * @param tokens tokens in a step
 * @param now the time in milliseconds: what is between steps, such as validation, counts towards the time remaining
 */
export function createPace(steps: number, tokens: number, now: () => number = () => performance.now()): Pace {
  let done = 0;
  let last = 0;
  let total = 0; // of the steps after the first
  let firstEnd = 0;
  return {
    add(milliseconds): void {
      done++;
      last = milliseconds;
      if (done === 1) firstEnd = now();
      else total += milliseconds;
    },
    line(step, loss): string {
      const perStep = done === 1 ? last : (now() - firstEnd) / (done - 1);
      const left = step === steps ? "" : `, ${formatDuration(perStep * (steps - step))} left`;
      return `step ${step}/${steps}: train loss ${loss.toFixed(6)} (took ${last.toFixed(3)} ms), ${
        formatRate(tokens, last)
      }${left}`;
    },
    closing(): string | undefined {
      if (done < 2) return undefined;
      const mean = total / (done - 1);
      return `final ${done - 1} iters avg: ${mean.toFixed(3)} ms, ${
        formatRate(tokens, mean)
      } (first step left out)`;
    },
  };
}
