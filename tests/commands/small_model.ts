/**
 * A model, token files and runs small enough for tests that run whole commands.
 *
 * @module
 */
import { join } from "@std/path";
import { openDevice } from "../../ffi/device.ts";
import { GPT2_VOCABULARY, type GPT2Config, paddedVocabulary } from "../../src/config.ts";
import { writeCheckpoint } from "../../src/io/checkpoint.ts";
import { gpt2Tokenizer } from "../../src/io/tokenizer.ts";
import { writeTokenFile } from "../../src/io/tokens.ts";
import { randomModel } from "../../src/load.ts";
import { inFolder } from "../folder.ts";
import type { Result } from "./run.ts";

/** GPT-2's vocabulary, everything else as small as can be. */
export const SMALL: GPT2Config = {
  maxT: 32,
  V: GPT2_VOCABULARY,
  Vp: paddedVocabulary(GPT2_VOCABULARY),
  L: 1,
  NH: 2,
  C: 8,
};

/** Writes `small.bin`, a random model, to a folder. */
export async function writeSmallModel(folder: string, config: GPT2Config = SMALL): Promise<void> {
  await writeCheckpoint(join(folder, "small.bin"), randomModel(config, openDevice({ threads: 1 }), 42));
}

/** Writes `fox_train.bin` and `fox_val.bin` to a folder. */
export async function writeFox(folder: string): Promise<void> {
  const { V, encode } = await gpt2Tokenizer();
  const sentence = "The quick brown fox jumps over the lazy dog and goes home. ";
  for (const [name, times] of [["train", 40], ["val", 5]] as const) {
    const ids = encode(sentence.repeat(times));
    await writeTokenFile(join(folder, `fox_${name}.bin`), V, (write) => write(ids));
  }
}

/** Arguments that train `small.bin` on the fox, in milliseconds a step. */
export const SMALL_RUN: readonly string[] = [
  ...["train", "--model", "small.bin", "--data", "fox_train.bin", "--threads", "1"],
  ...["--batch-size", "2", "--seq-len", "16", "--learning-rate", "0.01"],
];

/** Neither validation nor samples. */
export const SILENT: readonly string[] = ["--val-every", "0", "--sample-every", "0"];

/** Runs in a folder that holds `small.bin` and the fox. */
export async function inSmallFolder(run: (folder: string) => Promise<void>): Promise<void> {
  await inFolder(async (folder) => {
    await writeSmallModel(folder);
    await writeFox(folder);
    await run(folder);
  });
}

/** The losses of the steps that a run printed. */
export function losses({ stdout }: Result): number[] {
  return [...stdout.matchAll(/^step +\d+\/\d+ \| loss +(\S+)/gm)].map((match) => Number(match[1]));
}
