/**
 * What llmts is to reach on a CPU, how far it is, and what bounds it.
 *
 * @module
 */
import { trainingFlops } from "../src/flops.ts";
import { EAGER, LLMTS, RECOMPUTING, SMALL_BATCH, threadsName, TRANSFORMERS } from "./cases.ts";
import { floor, type Limits } from "./costs.ts";
import { SMALL } from "./models.ts";
import { limitsOf } from "./peaks.ts";
import { allTimes, type BenchResults, byRound, type CaseResult, type Measured, measured } from "./results.ts";
import { median, pairedRatio, type Ratio, rounded } from "./statistics.ts";

/** A goal and how far it is, in words. */
export interface GoalRow {
  readonly work: string;
  readonly goal: string;
  readonly reached: string;
  /** Whether it is reached; undefined where it was not measured. */
  readonly met: boolean | undefined;
  /** What it can't pass: measured peaks, another's memory. */
  readonly bound: string;
  /** The ops that are furthest above their floors. */
  readonly above?: readonly string[];
}

/** So many times as fast as another, by the case's total. */
const SPEED: readonly { id: string; than: string; goal: number }[] = [
  { id: "step-fp32-T64", than: EAGER, goal: 1.6 },
  { id: "step-bf16-T64", than: EAGER, goal: 3 },
  { id: "step-fp32-T1024", than: EAGER, goal: 2 },
  { id: "step-bf16-T1024", than: EAGER, goal: 4 },
  { id: "decode-fp32", than: TRANSFORMERS, goal: 1.55 },
  { id: "decode-bf16", than: TRANSFORMERS, goal: 4 },
];

/** Peaks of resident memory in GiB, at most. */
const MEMORY: readonly { id: string; by: string; goal: number }[] = [
  { id: "step-fp32-T64", by: LLMTS, goal: 2.2 },
  { id: "step-fp32-T1024", by: LLMTS, goal: 3.5 },
  { id: "recompute-fp32-T1024", by: RECOMPUTING, goal: 3.5 },
];

/** Times as fast with two threads as with one, at least. */
const TWO_THREADS = 1.8;
/** Milliseconds that a step of the small model may take beyond its arithmetic. */
const SMALL_STEP = 1;

/** A ratio with its range: `1.63× (1.58–1.70)`. */
export function times({ value, low, high }: Ratio): string {
  return `${rounded(value)}× (${rounded(low)}–${rounded(high)})`;
}

/** Bytes as tables have them: `2.12 GiB`. */
export function gibibytes(bytes: number): string {
  return `${(bytes / 2 ** 30).toFixed(2)} GiB`;
}

/** All goals that a run has cases for. */
export function goalRows({ cases, peaks }: Pick<BenchResults, "cases" | "peaks">): GoalRow[] {
  const find = (id: string): CaseResult | undefined => cases.find((result) => result.id === id);
  const rows: GoalRow[] = [];

  for (const { id, than, goal } of SPEED) {
    const result = find(id);
    const [mine, other] = [measured(result, LLMTS), measured(result, than)];
    if (result === undefined || mine === undefined) continue;
    const ratio = other && pairedRatio(byRound(other, "total"), byRound(mine, "total"));
    rows.push({
      work: result.title,
      goal: `${goal}× ${than}`,
      reached: ratio === undefined ? "not measured" : times(ratio),
      met: ratio && ratio.value >= goal,
      bound: speedBound(mine, other, limitsOf(peaks, result.precision)),
      above: furthestAbove(mine, limitsOf(peaks, result.precision)),
    });
  }
  for (const { id, by, goal } of MEMORY) {
    const result = find(id);
    const [mine, other] = [measured(result, by), measured(result, EAGER)];
    if (result === undefined || mine === undefined || mine.peakBytes === 0) continue;
    rows.push({
      work: `Peak memory: ${result.title}${by === LLMTS ? "" : `, ${by}`}`,
      goal: `${goal} GiB`,
      reached: gibibytes(mine.peakBytes),
      met: mine.peakBytes <= goal * 2 ** 30,
      bound: other === undefined ? "" : `${EAGER}: ${gibibytes(other.peakBytes)}`,
    });
  }
  for (const result of cases.filter(({ id }) => id.startsWith("threads-"))) {
    const [one, two] = [measured(result, threadsName(1)), measured(result, threadsName(2))];
    if (one === undefined || two === undefined) continue;
    const ratio = pairedRatio(byRound(one, "total"), byRound(two, "total"));
    rows.push({
      work: result.title,
      goal: `${TWO_THREADS}×`,
      reached: times(ratio),
      met: ratio.value >= TWO_THREADS,
      bound: threadsBound(peaks, result),
    });
  }
  const small = measured(find("small"), LLMTS);
  if (small !== undefined) {
    const { B, T } = SMALL_BATCH;
    const arithmetic = floor(
      { flops: B * T * trainingFlops(SMALL, T), read: 0, written: 0 },
      limitsOf(peaks, "fp32"),
    );
    const beyond = median(allTimes(small, "total")) - arithmetic;
    rows.push({
      work: find("small")!.title,
      goal: `${SMALL_STEP} ms beyond its arithmetic`,
      reached: `${rounded(beyond)} ms`,
      met: beyond < SMALL_STEP,
      bound: `its arithmetic: ${arithmetic.toFixed(3)} ms`,
    });
  }
  return rows;
}

/** Milliseconds of all ops at the machine's peaks: those in `total`, that is without the norm of the gradients. */
export function floorOf({ ops = [] }: Measured, limits: Limits): number {
  return ops.filter(({ label }) => !label.startsWith("global norm"))
    .reduce((sum, op) => sum + floor(op, limits), 0);
}

function speedBound(mine: Measured, other: Measured | undefined, limits: Limits): string {
  const least = floorOf(mine, limits);
  const share = (100 * least / median(allTimes(mine, "total"))).toFixed(0);
  const ratio = other && `, ${rounded(median(allTimes(other, "total")) / least)}× ${other.name}`;
  return `floor ${rounded(least)} ms${ratio ?? ""}; reached ${share} % of it`;
}

/** The three ops that take most time beyond their floors. */
function furthestAbove({ ops = [] }: Measured, limits: Limits): string[] {
  return ops.map((op) => ({ ...op, above: median(op.times) - floor(op, limits) }))
    .sort((a, b) => b.above - a.above).slice(0, 3)
    .map(({ label, times, above }) => `${label}, ${rounded(above)} of ${rounded(median(times))} ms`);
}

/** How much two threads gain where nothing but arithmetic, or nothing but memory, matters. */
function threadsBound(peaks: BenchResults["peaks"], { precision }: CaseResult): string {
  if (peaks.threads !== 2) return "";
  const gains = (["fma_fp32", "dot_bf16", "amx_bf16", "read", "update"] as const).flatMap((name) => {
    const peak = peaks[name];
    if (peak === null || (precision === "fp32" && name.endsWith("bf16"))) return [];
    return [`${name} ${rounded(median(peak.all) / median(peak.one))}×`];
  });
  return `this machine's own: ${gains.join(", ")}`;
}
