/**
 * Learning-rate schedules, with llm.c's formulas (llmc/schedulers.h): a linear warm-up, then what the schedule's name says.
 * A schedule depends on the step and the run's length alone, so a resumed run goes on where it was.
 *
 * @module
 */

/** Names of the schedules. `wsd`: warm-up, stable, decay (Hägele et al. 2024, arXiv 2405.18392). */
export const SCHEDULES = ["constant", "linear", "cosine", "wsd"] as const;
export type ScheduleName = typeof SCHEDULES[number];

/** What {@linkcode learningRateAt} takes. */
export interface Schedule {
  readonly name: ScheduleName;
  /** The highest rate: what the warm-up leads to. */
  readonly learningRate: number;
  /** Steps of the warm-up; 0: none. Unlike llm.c's, `constant` has one too. */
  readonly warmup: number;
  /** Steps of the whole run. */
  readonly steps: number;
  /** Where `linear`, `cosine` and `wsd` end, as a fraction of `learningRate`; reached one step after the last. */
  readonly finalFraction: number;
}

/**
 * The rate of a step, counted from 0. It is finite, above 0 within the run, and at most `learningRate`, whatever the
 * relation of warm-up and steps: a warm-up as long as the run or longer leaves no step to decay in.
 */
export function learningRateAt(schedule: Schedule, step: number): number {
  const { name, learningRate, warmup, steps, finalFraction } = schedule;
  if (step < warmup) return learningRate * (step + 1) / warmup;
  const final = learningRate * finalFraction;
  const decayed = (coefficient: number): number => final + coefficient * (learningRate - final);
  switch (name) {
    case "constant":
      return learningRate;
    case "linear":
      return decayed(1 - progress(step, warmup, steps));
    case "cosine":
      return decayed(0.5 * (1 + Math.cos(Math.PI * progress(step, warmup, steps))));
    case "wsd": // the last fifth decays
      return decayed(1 - Math.sqrt(progress(step, Math.floor(steps * 4 / 5), steps)));
  }
}

/** How far the step is from `start` to `end`, 0 … 1. */
function progress(step: number, start: number, end: number): number {
  return Math.min(1, Math.max(0, step - start) / Math.max(1, end - start));
}
