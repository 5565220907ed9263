/**
 * What `llmts train` prints while it runs: an aligned line a step with pace and time remaining, and a closing report.
 *
 * @module
 */
import { resourceUsage } from "node:process";
import { alignRows, formatBytes, formatDuration, formatRate } from "./format.ts";

/** How fast a step went. */
export interface StepPace {
  /** Milliseconds that the step took. */
  readonly ms: number;
  readonly tokensPerSecond: number;
  /** Model FLOPs utilisation, 0 … 1, where the peak is known. */
  readonly mfu?: number;
  /** Milliseconds until the run ends; not after its last step. */
  readonly remaining?: number;
}

/** What there is to say of a step. */
export interface StepProgress extends StepPace {
  /** Counts from 1. */
  readonly step: number;
  readonly loss: number;
  /** Of the gradients, before clipping. */
  readonly gradNorm: number;
  readonly learningRate: number;
  /** Why the update was skipped, where it was: the outlier and its z-score. */
  readonly skipped?: { readonly outlier: "loss" | "norm"; readonly z: number };
}

/**
 * The line of a step. Its columns have fixed widths, in which large numbers lose decimals, so that lines stay aligned. Up to
 * the loss it is llm.c's: programs that find that in columns 20 to 28 (its dev/loss_checker_ci.py) find it here.
 *
 * @param steps steps in the whole run
 * @param columns width to keep to: columns are left out, the least telling first, and last the line is cut
 */
export function progressLine(progress: StepProgress, steps: number, columns = Infinity): string {
  const { step, loss, gradNorm, learningRate, ms, tokensPerSecond, mfu, remaining, skipped } = progress;
  const number = String(step).padStart(Math.max(4, String(steps).length));
  /** In the order of the line; of those beyond the width, the ones with the highest number go first. */
  const cells: { text: string; rank: number }[] = [
    { text: `step ${number}/${steps}`, rank: 0 },
    { text: `loss ${fixed(loss, 8, 6)}`, rank: 0 },
    { text: `norm ${fixed(gradNorm, 7, 4)}`, rank: 4 },
    { text: `lr ${scientific(learningRate)}`, rank: 6 },
    { text: `${fixed(ms, 8, 2)} ms`, rank: 5 },
    ...(mfu === undefined ? [] : [{ text: `${fixed(100 * mfu, 5, 1)}% MFU`, rank: 7 }]),
    { text: `${fixed(tokensPerSecond, 7, tokensPerSecond < 10 ? 1 : 0)} tokens/s`, rank: 3 },
    ...(remaining === undefined ? [] : [{ text: `${formatDuration(remaining)} left`, rank: 2 }]),
    ...(skipped === undefined
      ? []
      : [{ text: `skipped: ${skipped.outlier} ${skipped.z.toFixed(2)} deviations off`, rank: 1 }]),
  ];
  const line = (): string => cells.map(({ text }) => text).join(" | ");
  for (let rank = 7; rank > 0 && line().length > columns; rank--) {
    const index = cells.findIndex((cell) => cell.rank === rank);
    if (index >= 0) cells.splice(index, 1);
  }
  return line().slice(0, columns);
}

/** A number right-aligned in `width` columns, with as many of the `decimals` as fit, or else in scientific notation. */
function fixed(value: number, width: number, decimals: number): string {
  const descending = (from: number): number[] => Array.from({ length: from + 1 }, (_, i) => from - i);
  const texts = [
    ...descending(decimals).map((digits) => value.toFixed(digits)),
    ...descending(width).map((digits) => value.toExponential(digits)),
  ];
  return texts.find((text) => text.length <= width)?.padStart(width) ?? String(value);
}

/** As C's `%.2e`: an exponent of two digits at least, so that rates of all sizes are equally long. */
function scientific(value: number): string {
  return value.toExponential(2).replace(/e([+-])(\d)$/, "e$10$2");
}

/** Keeps time over a run. */
export interface Pace {
  /** Notes step `step`, counted from 1, that took so many milliseconds. */
  add(step: number, milliseconds: number): StepPace;
  /** Mean milliseconds of a step without the first, which also warms up; undefined before there is a second. */
  mean(): number | undefined;
}

/** What {@linkcode createPace} takes. */
export interface PaceOptions {
  /** Steps in the whole run. */
  readonly steps: number;
  /** Tokens in a step. */
  readonly tokens: number;
  /** FLOPs that a token needs, and FLOP/s that the machine reaches, where known: see src/flops.ts. */
  readonly flops?: { readonly perToken: number; readonly peak: number } | undefined;
  /** The time in milliseconds: what is between steps, such as validation, counts towards the time remaining. */
  readonly now?: () => number;
}

/** Starts to keep time. A run that goes on from a checkpoint starts anew, whatever its steps' numbers. */
export function createPace({ steps, tokens, flops, now = () => performance.now() }: PaceOptions): Pace {
  let done = 0;
  let total = 0; // of the steps after the first
  let firstEnd = 0;
  return {
    add(step, ms): StepPace {
      done++;
      if (done === 1) firstEnd = now();
      else total += ms;
      const perStep = done === 1 ? ms : (now() - firstEnd) / (done - 1);
      const tokensPerSecond = 1000 * tokens / ms;
      return {
        ms,
        tokensPerSecond,
        ...(flops === undefined ? {} : { mfu: flops.perToken * tokensPerSecond / flops.peak }),
        ...(step >= steps ? {} : { remaining: perStep * (steps - step) }),
      };
    },
    mean: () => done < 2 ? undefined : total / (done - 1),
  };
}

/** What {@linkcode closingReport} tells. */
export interface Closing {
  /** Updates made by this process, and of them those skipped as outliers. */
  readonly steps: number;
  readonly skipped: number;
  /** Tokens trained on by this process. */
  readonly tokens: number;
  /** Milliseconds from the first step's start to the end, validation, samples and checkpoints included. */
  readonly elapsed: number;
  /** Mean milliseconds of a step: {@linkcode Pace.mean}. */
  readonly meanStep: number | undefined;
  /** Validation losses, in order. */
  readonly validations: readonly { readonly step: number; readonly loss: number }[];
  /** Most memory this process has had at once, in bytes. */
  readonly peakMemory: number;
  /** Files that the run has left. */
  readonly files: readonly string[];
}

/** The lines at the end of a run: a label and what it is, aligned. */
export function closingReport(closing: Closing): string[] {
  const { steps, skipped, tokens, elapsed, meanStep, validations, peakMemory, files } = closing;
  const last = validations.at(-1);
  const best = validations.reduce<typeof last>(
    (best, next) => best === undefined || next.loss < best.loss ? next : best,
    undefined,
  );
  return alignRows([
    ["steps", `${steps}${skipped === 0 ? "" : `, ${skipped} skipped`}`],
    ["time", formatDuration(elapsed)],
    ["tokens", `${tokens}, ${formatRate(tokens, elapsed)} with all that came between`],
    ...row(
      "mean step",
      meanStep,
      (ms) => `${ms.toFixed(2)} ms, ${formatRate(tokens / steps, ms)} (without the first)`,
    ),
    ...row("best val loss", best, valLoss),
    ...row("last val loss", last, valLoss),
    ["peak memory", formatBytes(peakMemory)],
    ...files.map((file, i) => [i === 0 ? "written" : "", file] as const),
  ]);
}

/** A row about a value, if there is one. */
function row<T>(label: string, value: T | undefined, text: (value: T) => string): [string, string][] {
  return value === undefined ? [] : [[label, text(value)]];
}

function valLoss({ step, loss }: Closing["validations"][number]): string {
  return `${loss.toFixed(6)} at step ${step}`;
}

/** Most memory that this process has had at once, in bytes; a GPU's is not in it. */
export function peakMemory(): number {
  return 1024 * resourceUsage().maxRSS;
}
