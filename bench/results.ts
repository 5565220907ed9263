/**
 * What a run of the bench found, as it is kept in build/bench.json and compared by `--baseline`.
 *
 * @module
 */
import { z } from "zod";
import { FileError } from "../src/errors.ts";
import { PRECISIONS } from "./cases.ts";

const Times = z.array(z.number().nonnegative()).readonly();
const Rates = z.array(z.number().positive()).min(1).readonly();
const Peak = z.object({ one: Rates, all: Rates }).nullable();

/** What bench/peaks.cpp measures. */
export const PEAK_NAMES = [
  "fma_fp32",
  "dot_bf16",
  "amx_bf16",
  "dot_int8",
  "read",
  "write",
  "copy",
  "update",
] as const;
export type PeakName = typeof PEAK_NAMES[number];

/** GFLOP/s and GB/s, sample by sample; null for what this machine has not. */
const Peaks = z.object({
  threads: z.int().positive(),
  fma_fp32: Peak,
  dot_bf16: Peak,
  amx_bf16: Peak,
  dot_int8: Peak,
  read: Peak,
  write: Peak,
  copy: Peak,
  update: Peak,
}) satisfies z.ZodType<Record<PeakName, unknown>>;

const Ops = z.array(z.object({
  label: z.string(),
  calls: z.int(),
  flops: z.number(),
  read: z.number(),
  written: z.number(),
  times: Times,
}));

const Measured = z.object({
  name: z.string(),
  /** Milliseconds by part, round by round. */
  rounds: z.array(z.record(z.string(), Times)),
  peakBytes: z.number(),
  /** What its ops took, over all rounds. */
  ops: Ops.optional(),
});

/** One that could not be measured, and why. */
const Failed = z.object({ name: z.string(), failed: z.string() });

const Result = z.object({
  id: z.string(),
  title: z.string(),
  precision: z.enum(PRECISIONS),
  contestants: z.array(z.union([Measured, Failed])),
});

const BenchResults = z.object({
  format: z.literal(2),
  date: z.string(),
  command: z.string(),
  /** Names and values, in the order they are shown. */
  machine: z.record(z.string(), z.string()),
  peaks: Peaks,
  cases: z.array(Result),
});

export type Peaks = z.infer<typeof Peaks>;
export type Measured = z.infer<typeof Measured>;
export type Failed = z.infer<typeof Failed>;
export type CaseResult = z.infer<typeof Result>;
export type BenchResults = z.infer<typeof BenchResults>;

/** What the bench printed about peaks. @throws {z.ZodError} it is something else */
export function parsePeaks(text: string): Peaks {
  return Peaks.parse(JSON.parse(text));
}

/** The measured contestant of a name, or undefined. */
export function measured(result: CaseResult | undefined, name: string): Measured | undefined {
  const found = result?.contestants.find((contestant) => contestant.name === name);
  return found !== undefined && "rounds" in found ? found : undefined;
}

/** A part's times, round by round. */
export function byRound({ rounds }: Measured, part: string): (readonly number[])[] {
  return rounds.map((times) => times[part] ?? []);
}

/** A part's times of all rounds. */
export function allTimes(contestant: Measured, part: string): number[] {
  return byRound(contestant, part).flat();
}

/**
 * Reads an earlier run's results.
 *
 * @throws {FileError} it can't be read or is something else
 */
export function readResults(path: string): BenchResults {
  let text: string;
  try {
    text = Deno.readTextFileSync(path);
  } catch (error) {
    throw new FileError(path, `can't be read: ${(error as Error).message}`, {
      hint: "deno task bench writes build/bench.json",
    });
  }
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    throw new FileError(path, "is no JSON, expected what deno task bench --json wrote");
  }
  const parsed = BenchResults.safeParse(content);
  if (parsed.success) return parsed.data;
  const { path: place, message } = parsed.error.issues[0]!;
  throw new FileError(
    path,
    `is no result of deno task bench: ${place.join(".") || "its content"}: ${message}`,
  );
}
