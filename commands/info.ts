/**
 * `llmts info`: version, kernel library, machine, and the memory that a model needs.
 *
 * @module
 */
import config from "../deno.json" with { type: "json" };
import type { DeviceInfo } from "../ffi/library.ts";
import { LlmtsError } from "../src/errors.ts";
import { findModel, modelConfig } from "../src/load.ts";
import { type MemoryPlan, memoryPlan } from "../src/memory.ts";
import { parameterCount } from "../src/parameters.ts";
import { defineCommand } from "./command.ts";
import { checkSequenceLength, ENGINE_FLAGS, openEngine } from "./engine.ts";
import type { FlagTable, FlagValues } from "./flags.ts";
import { formatBytes } from "./format.ts";
import { notice, print } from "./output.ts";

const FLAGS = {
  model: {
    type: "path",
    value: "NAME|FILE",
    default: "gpt2",
    description:
      "model to compute the memory for: a preset (d2 … d48, gpt2 … gpt2-xl) or a model's file or folder",
    group: "Memory",
  },
  batchSize: {
    type: "integer",
    value: "B",
    min: 1,
    default: 4,
    description: "sequences in a batch",
    group: "Memory",
  },
  seqLen: {
    type: "integer",
    value: "T",
    min: 1,
    default: 64,
    description: "tokens in a sequence",
    group: "Memory",
  },
  json: { type: "boolean", description: "print one JSON object", group: "Output" },
  ...ENGINE_FLAGS,
} as const satisfies FlagTable;

/** All that the command prints; memory in bytes. */
interface Info {
  readonly llmts: string;
  readonly deno: string;
  readonly system: string;
  /** The library in use, or why there is none. */
  readonly library: { readonly path: string } & DeviceInfo | { readonly error: string };
  readonly model: { readonly name: string; readonly parameters: number };
  readonly memory: MemoryPlan & { readonly B: number; readonly T: number; readonly available: number };
}

/** See the module. */
export const command = defineCommand({
  flags: FLAGS,
  details: [
    "Memory is what llmts train allocates; the kernels' scratch and the program itself come on top. The exit code is 1 " +
    "where the kernel library can't be loaded.",
  ],
  examples: ["llmts info", "llmts info --model d24 --batch-size 8 --seq-len 1024", "llmts info --json"],
  run(flags): number {
    const { library, hint } = describeLibrary(flags);
    const info = collect(flags, library);
    print(
      flags.json ? `${JSON.stringify(info, null, 2)}\n` : `${infoLines(info, flags.precision).join("\n")}\n`,
    );
    if (!("error" in library)) return 0;
    if (hint !== undefined) notice(`hint: ${hint}`);
    return 1;
  },
});

/** The library that commands would use; what is wrong with it is part of the answer, not an end of it. */
function describeLibrary(
  flags: FlagValues<typeof ENGINE_FLAGS>,
): { library: Info["library"]; hint?: string | undefined } {
  try {
    const device = openEngine(flags);
    return { library: { path: device.library.path, ...device.info() } };
  } catch (error) {
    if (!(error instanceof LlmtsError)) throw error;
    return { library: { error: error.message }, hint: error.hint };
  }
}

function collect(
  { model, batchSize: B, seqLen: T, precision }: FlagValues<typeof FLAGS>,
  library: Info["library"],
): Info {
  const shape = modelConfig(findModel(model));
  checkSequenceLength(T, model, shape);
  return {
    llmts: config.version,
    deno: Deno.version.deno,
    system: `${Deno.build.os} ${Deno.build.arch}`,
    library,
    model: { name: model, parameters: parameterCount(shape) },
    memory: { B, T, ...memoryPlan(shape, { B, T, precision }), available: Deno.systemMemoryInfo().available },
  };
}

function infoLines({ llmts, deno, system, library, model, memory }: Info, precision: string): string[] {
  const bytes = (name: string, count: number): string =>
    `  ${name.padEnd(12)}${String(count).padStart(14)} bytes ${formatBytes(count).padStart(11)}`;
  return [
    `llmts ${llmts}, Deno ${deno}, ${system}`,
    ...("error" in library ? [`library: ${library.error}`] : [
      `library: ${library.path}`,
      `variant: ${library.variant}`,
      `device: ${library.device}`,
      `features: ${library.features.join(" ")}`,
      `threads: ${library.threads}`,
    ]),
    "",
    `training ${model.name} (${model.parameters} parameters) at B=${memory.B}, T=${memory.T} in ${precision} takes`,
    bytes("parameters", memory.parameters),
    bytes("gradients", memory.gradients),
    bytes("optimizer", memory.optimizer),
    bytes("activations", memory.activations),
    bytes("total", memory.total),
    bytes("free now", memory.available),
  ];
}
