/**
 * `llmts info`: versions, the kernel library and what it runs on, and the memory that a model needs.
 *
 * @module
 */
import denoConfig from "../deno.json" with { type: "json" };
import type { Device } from "../ffi/device.ts";
import { checkCalls } from "../ffi/self_test.ts";
import { freeHostMemory } from "../ffi/memory.ts";
import { LlmtsError } from "../src/errors.ts";
import { findModel, modelConfig } from "../src/load.ts";
import { memoryPlan } from "../src/memory.ts";
import { parameterCount } from "../src/parameters.ts";
import { defineCommand } from "./command.ts";
import { checkSequenceLength, ENGINE_FLAGS, openEngine } from "./engine.ts";
import type { FlagTable, FlagValues } from "./flags.ts";
import { formatBytes } from "./format.ts";
import { notice, print } from "./output.ts";

/** Tokens in a sequence without `--seq-len`. */
const SEQUENCE = 64;

const FLAGS = {
  model: {
    type: "path",
    value: "NAME|FILE",
    default: "gpt2",
    description: "preset, config.json, checkpoint, safetensors file or folder whose memory to print",
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
    absent: `${SEQUENCE}, or the model's positions if those are fewer`,
    description: "tokens in a sequence",
    group: "Memory",
  },
  json: { type: "boolean", description: "print one JSON object, memory in bytes", group: "Output" },
  ...ENGINE_FLAGS,
} as const satisfies FlagTable;

type Flags = FlagValues<typeof FLAGS>;

/** See the module. */
export const command = defineCommand({
  flags: FLAGS,
  details: [
    "The kernels' scratch memory, some tens of MiB, comes on top of what is printed. Without a kernel library that can be " +
    "loaded, and that gives the right results for some thousand small calls, the exit code is 1, and the rest is printed " +
    "all the same.",
  ],
  examples: ["llmts info --model gpt2-xl --batch-size 1 --seq-len 1024"],
  run(flags): number {
    const source = findModel(flags.model);
    const config = modelConfig(source);
    const { batchSize: B, seqLen: T = Math.min(SEQUENCE, config.maxT), precision } = flags;
    checkSequenceLength(T, source, config);
    const memory = memoryPlan(config, { B, T, precision });
    const device = tryEngine(flags);
    const available = device instanceof LlmtsError ? freeHostMemory() : device.freeMemory();
    if (flags.json) {
      print(`${
        JSON.stringify({
          version: denoConfig.version,
          deno: Deno.version.deno,
          ...deviceObject(device),
          model: { source, config, parameters: parameterCount(config), B, T, precision },
          memory: { ...memory, available },
        })
      }\n`);
    } else {
      const rows = {
        llmts: denoConfig.version,
        Deno: Deno.version.deno,
        ...deviceRows(device),
        model: `${source}: ${parameterCount(config)} parameters, B=${B}, T=${T}, ${precision}`,
        parameters: formatBytes(memory.parameters),
        ...(memory.master > 0 ? { "fp32 master": formatBytes(memory.master) } : {}),
        gradients: formatBytes(memory.gradients),
        optimizer: formatBytes(memory.optimizer),
        activations: formatBytes(memory.activations),
        "to train": formatBytes(memory.total),
        "free now": formatBytes(available),
      };
      for (const [name, value] of Object.entries(rows)) print(`${`${name}:`.padEnd(14)} ${value}\n`);
    }
    if (!(device instanceof LlmtsError)) return 0;
    if (device.hint !== undefined) notice(`hint: ${device.hint}`);
    return 1;
  },
});

/** The device that the flags ask for, or why there is none: that is part of the answer here, not the end of it. */
function tryEngine(flags: Flags): Device | LlmtsError {
  try {
    const device = openEngine(flags);
    checkCalls(device);
    return device;
  } catch (error) {
    if (error instanceof LlmtsError) return error;
    throw error;
  }
}

function deviceObject(device: Device | LlmtsError): Record<string, unknown> {
  if (device instanceof LlmtsError) return { library: { error: device.message } };
  const { variant, level, features, threads, device: kind } = device.info();
  return { library: { path: device.library.path, variant }, device: { kind, level, features, threads } };
}

function deviceRows(device: Device | LlmtsError): Record<string, string> {
  if (device instanceof LlmtsError) return { library: device.message };
  const { variant, features, threads, device: kind } = device.info();
  return {
    library: device.library.path,
    variant,
    device: `${kind}, ${threads} thread${threads === 1 ? "" : "s"}`,
    "CPU features": features.join(" "),
  };
}
