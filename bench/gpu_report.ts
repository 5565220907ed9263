/**
 * What bench/gpu.ts measured, in words: tokens a second, the share of the card's peak that they are, and the goals.
 *
 * @module
 */
import { EAGER, LLMTS } from "./cases.ts";
import { pairedRatio, rounded } from "./statistics.ts";
import { table } from "./table.ts";

/** The name of the contestant that the goal is about. */
export const COMPILED_FLASH = "PyTorch compiled, flash attention";
export const EAGER_FLASH = `${EAGER}, flash attention`;

/** Steps of one contestant, in milliseconds, by turn; or why there are none. */
export interface GpuMeasured {
  readonly name: string;
  readonly rounds: readonly (readonly number[])[];
  readonly failed?: string;
}

/** See the module. */
export interface GpuResults {
  readonly model: string;
  readonly B: number;
  readonly T: number;
  readonly precision: string;
  /** Floating-point operations of training for a token, see src/flops.ts. */
  readonly flopsPerToken: number;
  /** As the driver names it. */
  readonly card: string;
  /** FLOP/s that a large matmul of llmts reached. */
  readonly reachedPeak: number;
  readonly measured: readonly GpuMeasured[];
}

/** Dense bf16 FLOP/s with fp32 sums, from NVIDIA's data sheets, by a part of the card's name; the first that fits. */
const PEAKS: readonly (readonly [part: string, flops: number])[] = [
  ["B200", 2250e12],
  ["H200", 989.5e12],
  ["H100 PCIe", 756e12],
  ["H100 NVL", 835e12],
  ["H100", 989.5e12],
  ["A100", 312e12],
  ["L40S", 362e12],
  ["L4", 121e12],
  ["RTX 4090", 165.2e12],
  ["RTX 3090", 71e12],
  ["A10", 125e12],
];

/** The peak of a card in bf16, or undefined where it is not in the table. */
export function bf16Peak(card: string): number | undefined {
  return PEAKS.find(([part]) => new RegExp(`\\b${part}\\b`).test(card))?.[1];
}

/** On an H100: so many times as fast as PyTorch compiled, and so much of the peak. */
const GOAL = { ratio: 1.1, utilisation: 0.5 } as const;

/** The results as Markdown. */
export function gpuReport(results: GpuResults): string {
  const { model, B, T, precision, flopsPerToken, card, reachedPeak, measured } = results;
  const published = precision === "bf16" ? bf16Peak(card) : undefined;
  const peak = published ?? reachedPeak;
  const tokens = (times: readonly number[]): number =>
    1000 * B * T * times.length / times.reduce((a, b) => a + b, 0);
  const utilisation = (rate: number): number => rate * flopsPerToken / peak;
  const ours = measured.find(({ name }) => name === LLMTS)!;
  const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

  const rows = measured.map(({ name, rounds, failed }) => {
    if (failed !== undefined) return [name, failed, "", "", ""];
    const rate = tokens(rounds.flat());
    const times = rounds.flat();
    const ratio = name === LLMTS ? "" : `${rounded(pairedRatio(rounds, ours.rounds).value)}×`;
    return [
      name,
      `${rounded(times.toSorted((a, b) => a - b)[times.length >> 1]!)} ms`,
      Math.round(rate).toLocaleString("en-US"),
      percent(utilisation(rate)),
      ratio,
    ];
  });
  const lines = [
    `# Training step on a GPU: ${model}, B=${B}, T=${T}, ${precision}`,
    "",
    `${card}. MFU is of ${(peak / 1e12).toFixed(1)} TFLOP/s, ${
      published === undefined
        ? "what a large matmul of llmts reached: the card's published peak is not known here"
        : `the card's published peak in dense bf16; a large matmul of llmts reached ${
          (reachedPeak / 1e12).toFixed(1)
        }`
    }.`,
    "",
    ...table(["", "Step, median", "Tokens/s", "MFU", "llmts is faster by"], rows),
  ];
  const compiled = measured.find(({ name }) => name === COMPILED_FLASH);
  if (
    published === undefined || ours.failed !== undefined || compiled === undefined ||
    compiled.failed !== undefined
  ) {
    return lines.join("\n");
  }
  const ratio = pairedRatio(compiled.rounds, ours.rounds).value;
  const share = utilisation(tokens(ours.rounds.flat()));
  const verdict = (met: boolean): string => met ? "reached" : "not reached";
  return [
    ...lines,
    "",
    `Goal, on an H100: ${GOAL.ratio} times compiled PyTorch: ${verdict(ratio >= GOAL.ratio)} (${
      rounded(ratio)
    }); an MFU of ${percent(GOAL.utilisation)}: ${verdict(share >= GOAL.utilisation)} (${percent(share)}).`,
  ].join("\n");
}
