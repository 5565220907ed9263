/**
 * A made-up run of the bench: round numbers, so that ratios can be told at sight.
 *
 * @module
 */
import { EAGER, LLMTS, threadsName } from "../../bench/cases.ts";
import type { BenchResults, CaseResult, Measured } from "../../bench/results.ts";

/** Peaks of a machine: 1000 GFLOP/s in fp32, 2000 in bf16, 80 GB/s read, 100 GB/s read and written. */
export const PEAKS: BenchResults["peaks"] = {
  threads: 2,
  fma_fp32: { one: [500], all: [900, 1000] },
  dot_bf16: { one: [1000], all: [2000] },
  amx_bf16: null,
  dot_int8: { one: [2000], all: [4000] },
  read: { one: [50], all: [80] },
  write: { one: [50], all: [70] },
  copy: { one: [55], all: [90] },
  update: { one: [60], all: [100] },
};

/** A contestant with a total for each round. */
export function contestant(name: string, rounds: readonly number[][], gib = 1): Measured {
  return { name, rounds: rounds.map((total) => ({ total })), peakBytes: gib * 2 ** 30 };
}

/** A run with these cases. */
export function run(...cases: CaseResult[]): BenchResults {
  return {
    format: 2,
    date: "2026-01-02",
    command: "deno task bench",
    machine: { Processor: "Some CPU", llmts: "abc1234" },
    peaks: PEAKS,
    cases,
  };
}

/** fp32 steps of llmts in 500 ms beside PyTorch's in 1000; all of llmts's is one op with a floor of 400. */
export function fp32Steps(scale = 1): CaseResult {
  const times = [490, 500, 510].map((time) => time * scale);
  const op = { label: "matmul N=1 C=2 OC=3", calls: 12, flops: 4e11, read: 6e8, written: 4e8, times };
  return {
    id: "step-fp32-T64",
    title: "Steps",
    precision: "fp32",
    contestants: [
      { ...contestant(LLMTS, times.map((time) => [time]), 2), ops: [op] },
      contestant(EAGER, [[980], [1000], [1020]], 3),
      { name: "PyTorch compiled", failed: "no C++ compiler" },
    ],
  };
}

/** The same with one thread and with two. */
export function threads(one: number, two: number): CaseResult {
  return {
    id: "threads-fp32",
    title: "Threads",
    precision: "fp32",
    contestants: [contestant(threadsName(1), [[one]]), contestant(threadsName(2), [[two]])],
  };
}
