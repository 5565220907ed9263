/**
 * What `llmts train --dry-run` prints in place of training: sizes, memory, disk and the time that the run should take.
 *
 * @module
 */
import { elements } from "../ffi/tensor.ts";
import type { GPT2Config } from "../src/config.ts";
import { trainingFlops } from "../src/flops.ts";
import type { MemoryPlan } from "../src/memory.ts";
import { parameterCount, TENSORS } from "../src/parameters.ts";
import type { Flag } from "./flags.ts";
import { alignRows, formatBytes, formatDuration, formatUnits } from "./format.ts";

/** `--dry-run`. */
export const DRY_RUN_FLAG = {
  type: "boolean",
  description: "print sizes, memory, disk and the estimated time of the run, and don't train",
  group: "Configuration",
} as const satisfies Flag;

/** A run that has not begun. */
export interface TrainPlan {
  /** What the model is made from: a preset or a file. */
  readonly source: string;
  readonly config: GPT2Config;
  /** Sequences in a batch, tokens in a sequence, and batches in an update. */
  readonly B: number;
  readonly T: number;
  readonly batches: number;
  /** Updates in the run. */
  readonly steps: number;
  /** Tokens of an epoch. */
  readonly epochTokens: number;
  /** Tokens in a validation, and how many there are; tokens 0: none. */
  readonly validation: { readonly tokens: number; readonly times: number };
  readonly memory: MemoryPlan;
  /** Bytes of memory that are free on the device. */
  readonly freeMemory: number;
  /** Bytes of a checkpoint, and how many lie on the disk at the end, or at most. */
  readonly checkpoint: { readonly bytes: number; readonly kept: number; readonly atMost: boolean };
  /** FLOP/s that the device reaches in a matmul: measurePeak of src/flops.ts. */
  readonly peak: number;
}

/**
 * The share of the measured peak that a run is assumed to reach. On two cores d4 and d12 came to 0.5 … 0.9 in fp32 and to
 * 0.2 … 0.6 in bf16. To time a step instead would take all of the run's memory, which a dry run leaves alone.
 */
const ASSUMED_MFU = 0.5;

/** Tensors of one purpose, and how their names begin. */
const GROUPS: readonly { readonly label: string; readonly names: RegExp }[] = [
  { label: "token embedding, classifier", names: /^wte/ },
  { label: "position embedding", names: /^wpe/ },
  { label: "attention", names: /^(qkv|attproj)/ },
  { label: "MLP", names: /^fc/ },
  { label: "layernorms", names: /^ln/ },
];

/** The plan as lines: a label and what it is, aligned. */
export function planLines(plan: TrainPlan): string[] {
  const { source, config, B, T, batches, steps, epochTokens, validation, memory, freeMemory, checkpoint } =
    plan;
  const { L, NH, C, maxT, V, Vp } = config;
  const updateTokens = B * T * batches;
  const tokens = steps * updateTokens;
  return alignRows([
    ["model", `${source}: ${L} layers, ${NH} heads, ${C} channels, ${maxT} positions`],
    ["vocabulary", `${V}, padded to ${Vp}`],
    ["parameters", String(parameterCount(config))],
    ...parameterRows(config),
    ["memory", `${formatBytes(memory.total)} to train, ${formatBytes(freeMemory)} are free`],
    ...memoryRows(memory),
    ["tokens an update", `${updateTokens}: ${plural(batches, "batch", "batches")} of ${B} × ${T}`],
    ["updates", `${steps}, ${tokens} tokens, ${(tokens / epochTokens).toFixed(2)} epochs of ${epochTokens}`],
    [
      "validation",
      validation.tokens === 0 ? "none" : `${validation.tokens} tokens, ${validation.times} times`,
    ],
    [
      "checkpoints",
      `${checkpoint.atMost ? "at most " : ""}${plural(checkpoint.kept, "file set", "file sets")} of ${
        formatBytes(checkpoint.bytes)
      }: ${formatBytes(checkpoint.kept * checkpoint.bytes)} on the disk`,
    ],
    ["estimated time", timeText(plan)],
  ]);
}

function parameterRows(config: GPT2Config): [string, string][] {
  return GROUPS.map(({ label, names }) => {
    const count = TENSORS.filter(({ name }) => names.test(name))
      .reduce((sum, { shape }) => sum + elements(shape(config)), 0);
    return [`  ${label}`, `${count} (${(100 * count / parameterCount(config)).toFixed(1)} %)`];
  });
}

function memoryRows(
  { parameters, master, gradients, optimizer, activations }: MemoryPlan,
): [string, string][] {
  const rows: [string, number][] = [
    ["parameters", parameters],
    ["fp32 master weights", master],
    ["gradients", gradients],
    ["AdamW's moments", optimizer],
    ["activations", activations],
  ];
  return [
    ...rows.filter(([, bytes]) => bytes > 0).map((
      [label, bytes],
    ): [string, string] => [`  ${label}`, formatBytes(bytes)]),
    ["  kernels' scratch", "not counted, some tens of MiB"],
  ];
}

/** Training, and validation, whose forward pass is a third of it. Samples and files come on top. */
function timeText({ config, B, T, batches, steps, validation, peak }: TrainPlan): string {
  const flops = trainingFlops(config, T);
  const total = flops * (steps * B * T * batches + validation.tokens * validation.times / 3);
  const share = `${100 * ASSUMED_MFU} %, which is assumed, of ${
    formatUnits(peak, "FLOP/s")
  }, measured in a matmul`;
  return `${formatDuration(1000 * total / (ASSUMED_MFU * peak))}: ${
    formatUnits(flops, "FLOP")
  } a token at ${share}`;
}

function plural(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`;
}
