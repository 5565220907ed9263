/**
 * The lines that `llmts train` prints, in the manner of llm.cpp.
 *
 * @module
 */
import type { DeviceInfo } from "../ffi/library.ts";
import type { GPT2Config } from "../src/config.ts";
import type { MemoryPlan } from "../src/memory.ts";
import { parameterCount } from "../src/parameters.ts";
import { deviceWords } from "./engine.ts";
import { formatBytes } from "./format.ts";

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
    `device: ${deviceWords(info)}, ${precision}`,
  ];
}

/** A validation: losses compare only at the same T and tokens, so both are said. */
export function validationLine({ loss, tokens }: { loss: number; tokens: number }, T: number): string {
  return `val loss ${loss.toFixed(6)} (${tokens} tokens, T=${T})`;
}
