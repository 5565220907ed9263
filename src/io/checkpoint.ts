/**
 * Model checkpoints in llm.c's format: a header of 256 int32 (magic 20240326; version 3 with fp32 tensors, 5 with bf16;
 * maxT, V, L, NH, C, Vp), then the 16 tensors in the order of {@linkcode TENSORS}, without gaps.
 *
 * @module
 */
import { join } from "@std/path";
import type { Device } from "../../ffi/device.ts";
import { float32, tensorBytes } from "../../ffi/tensor.ts";
import { bf16ToFp32, fp32ToBf16 } from "../bfloat16.ts";
import { configProblem, type GPT2Config } from "../config.ts";
import { FileError } from "../errors.ts";
import { createModel, type Model, onDevice } from "../model.ts";
import { parameterCount, TENSORS } from "../parameters.ts";
import { exactWeights, fp32Pieces, PIECE } from "../weights.ts";
import {
  checkSize,
  exists,
  folderEntries,
  HEADER_BYTES,
  openForReading,
  readFully,
  readHeader,
  timeWritten,
  writeFileAtomically,
  writeFully,
} from "./files.ts";

const MAGIC = 20240326;

/** Element type of the tensors by version. */
const VERSIONS = { fp32: 3, bf16: 5 } as const;

/** How a checkpoint stores its numbers. */
export type StoredPrecision = keyof typeof VERSIONS;

/** What the header of a checkpoint says. */
export interface CheckpointHeader {
  readonly config: GPT2Config;
  readonly stored: StoredPrecision;
}

/** Whether a file that starts with these bytes is a checkpoint. */
export function isCheckpoint(start: Uint8Array): boolean {
  return start.length >= 4 && new DataView(start.buffer, start.byteOffset).getInt32(0, true) === MAGIC;
}

function checkpointHeader(file: Deno.FsFile, path: string): CheckpointHeader {
  const header = readHeader(file, path, { magic: MAGIC, versions: Object.values(VERSIONS) });
  const [, version, maxT, V, L, NH, C, Vp] = header as unknown as number[];
  const config = { maxT, V, Vp, L, NH, C } as GPT2Config;
  const problem = configProblem(config);
  if (problem !== undefined) throw new FileError(path, `its header holds no GPT-2: ${problem}`);
  const stored = version === VERSIONS.bf16 ? "bf16" : "fp32";
  checkSize(file, path, checkpointBytes(config, stored));
  return { config, stored };
}

/** The size of a checkpoint file. */
export function checkpointBytes(config: GPT2Config, stored: StoredPrecision): number {
  return HEADER_BYTES + parameterCount(config) * tensorBytes(stored, [1]);
}

/**
 * Reads and checks the header of a checkpoint.
 *
 * @throws {FileError} it can't be read, or is no checkpoint of a version and size that fit
 */
export function readCheckpointHeader(path: string): CheckpointHeader {
  using file = openForReading(path);
  return checkpointHeader(file, path);
}

/**
 * Reads a model. bf16 tensors are widened, which loses nothing.
 *
 * @throws {FileError} as {@linkcode readCheckpointHeader}
 * @throws {LlmtsError} there is not enough memory
 */
export function readCheckpoint(path: string, device: Device): Model {
  using file = openForReading(path);
  const { config, stored } = checkpointHeader(file, path);
  const model = createModel(config, device.host);
  const narrow = new Uint16Array(stored === "bf16" ? PIECE : 0);
  for (const { name } of TENSORS) {
    const values = float32(model.parameters.whole[name]);
    if (stored === "fp32") {
      readFully(file, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
      continue;
    }
    for (let i = 0; i < values.length; i += PIECE) {
      const part = values.subarray(i, i + PIECE);
      const source = narrow.subarray(0, part.length);
      readFully(file, new Uint8Array(source.buffer, 0, source.byteLength));
      bf16ToFp32(part, source);
    }
  }
  return onDevice(model, device);
}

/**
 * Writes a model, whole or not at all. bf16 rounds to the nearest.
 *
 * @throws {FileError} it can't be written
 */
export async function writeCheckpoint(
  path: string,
  model: Model,
  stored: StoredPrecision = "fp32",
): Promise<void> {
  const { config: { maxT, V, Vp, L, NH, C }, device } = model;
  const { whole } = exactWeights(model);
  await writeFileAtomically(path, (file) => {
    const header = new Int32Array(HEADER_BYTES / 4);
    header.set([MAGIC, VERSIONS[stored], maxT, V, L, NH, C, Vp]);
    writeFully(file, new Uint8Array(header.buffer));
    const narrow = new Uint16Array(stored === "bf16" ? PIECE : 0);
    for (const { name } of TENSORS) {
      for (const piece of fp32Pieces(device, whole[name])) {
        const values = device.read(piece);
        if (stored === "fp32") {
          writeFully(file, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
          continue;
        }
        const target = narrow.subarray(0, values.length);
        fp32ToBf16(target, values);
        writeFully(file, new Uint8Array(target.buffer, 0, target.byteLength));
      }
    }
  });
}

/** The file of the checkpoint of a step, as llm.c names it: `model_00000040.bin`. */
export function checkpointPath(folder: string, step: number): string {
  return join(folder, `model_${String(step).padStart(8, "0")}.bin`);
}

/**
 * The checkpoint in a folder that was written last (of equal times, the highest step), or undefined where there is none.
 *
 * @throws {FileError} the folder can't be read
 */
export function newestCheckpoint(folder: string): string | undefined {
  if (!exists(folder)) return undefined;
  const names = folderEntries(folder).filter((entry) => entry.isFile).map((entry) => entry.name);
  const paths = names.filter((name) => /^model_\d{8}\.bin$/.test(name)).sort().map((name) =>
    join(folder, name)
  );
  return paths.reduce<string | undefined>(
    (newest, path) => newest === undefined || timeWritten(path) >= timeWritten(newest) ? path : newest,
    undefined,
  );
}
