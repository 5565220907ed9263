/**
 * Debug states in llm.c's format: a batch, and what PyTorch made of it. A header of 256 int32 (magic 20240327, version 2, B,
 * T), then the tokens and the targets, int32 (B,T) each, the logits (B,T,V), the mean loss, and the gradients of the 16
 * tensors in the order of {@linkcode TENSORS}, wte's padding rows included; all of these fp32.
 *
 * @module
 */
import { elements, float32 } from "../../ffi/tensor.ts";
import { type GPT2Config, presetConfig, PRESETS } from "../config.ts";
import { FileError } from "../errors.ts";
import { parameterCount, type Parameters, type TensorName, TENSORS } from "../parameters.ts";
import {
  HEADER_BYTES,
  openForReading,
  readFully,
  readHeader,
  writeFileAtomically,
  writeFully,
} from "./files.ts";

const MAGIC = 20240327;
const VERSION = 2;

/** A batch of B sequences of T tokens. */
interface DebugBatch {
  readonly B: number;
  readonly T: number;
  /** (B,T), each in [0,V). */
  readonly tokens: Int32Array<ArrayBuffer>;
  /** (B,T), each in [0,V). */
  readonly targets: Int32Array<ArrayBuffer>;
  /** Mean cross-entropy in nats. */
  readonly loss: number;
}

/** An open debug state. Logits and gradients are read from the file at each call: a 124M model's are 549 MB. */
export interface DebugState extends DebugBatch, Disposable {
  readonly path: string;
  /** (B,T,V). */
  logits(): Float32Array<ArrayBuffer>;
  /** In the shape of the parameter. */
  gradient(name: TensorName): Float32Array<ArrayBuffer>;
}

/** What {@linkcode writeDebugState} writes. */
export interface DebugStateSource extends DebugBatch {
  /** (B,T,V). */
  readonly logits: Float32Array<ArrayBuffer>;
  readonly gradients: Parameters;
}

/** The size of a debug state in bytes: the header does not say which model it is of. */
function stateBytes(config: GPT2Config, B: number, T: number): number {
  return HEADER_BYTES + 4 * (2 * B * T + B * T * config.V + 1 + parameterCount(config));
}

/**
 * Opens a debug state of a model of the given shape. Close it with `using` or `[Symbol.dispose]()`.
 *
 * @throws {FileError} it can't be read, is of another format or version, its size is not that of this model's debug
 * state, or a token or target is outside the model's vocabulary
 */
export function openDebugState(path: string, config: GPT2Config, hint?: string): DebugState {
  const file = openForReading(path, hint);
  try {
    const { B, T } = readShape(file, path, config);
    const at = (offset: number, bytes: Uint8Array): void => {
      file.seekSync(offset, Deno.SeekMode.Start);
      if (readFully(file, bytes) < bytes.length) throw new FileError(path, "was cut short while being read");
    };
    const ints = (offset: number): Int32Array<ArrayBuffer> => {
      const out = new Int32Array(B * T);
      at(offset, new Uint8Array(out.buffer));
      return out;
    };
    const floats = (offset: number, count: number): Float32Array<ArrayBuffer> => {
      const out = new Float32Array(count);
      at(offset, new Uint8Array(out.buffer));
      return out;
    };

    const tokens = ints(HEADER_BYTES);
    const targets = ints(HEADER_BYTES + 4 * B * T);
    checkIds(path, "token", tokens, T, config.V);
    checkIds(path, "target", targets, T, config.V);
    const logitsOffset = HEADER_BYTES + 8 * B * T;
    const lossOffset = logitsOffset + 4 * B * T * config.V;
    const gradients = new Map<TensorName, { offset: number; count: number }>();
    let offset = lossOffset + 4;
    for (const { name, shape } of TENSORS) {
      const count = elements(shape(config));
      gradients.set(name, { offset, count });
      offset += 4 * count;
    }
    return {
      path,
      B,
      T,
      tokens,
      targets,
      loss: floats(lossOffset, 1)[0]!,
      logits: () => floats(logitsOffset, B * T * config.V),
      gradient(name): Float32Array<ArrayBuffer> {
        const { offset, count } = gradients.get(name)!;
        return floats(offset, count);
      },
      [Symbol.dispose]: () => file.close(),
    };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** Reads the header and checks it, and the file's size, against the model. */
function readShape(file: Deno.FsFile, path: string, config: GPT2Config): { B: number; T: number } {
  const [, , B = 0, T = 0] = readHeader(file, path, { magic: MAGIC, versions: [VERSION] });
  if (B < 1 || T < 1) throw new FileError(path, `its header has a batch of ${B} × ${T} tokens`);
  const { size } = file.statSync();
  const expected = stateBytes(config, B, T);
  if (size !== expected) {
    const preset = PRESETS.findLast((name) => stateBytes(presetConfig(name), B, T) === size);
    if (preset !== undefined) {
      const found = describeSizes(presetConfig(preset));
      throw new FileError(
        path,
        `is the debug state of a ${preset} (${found}), the model has ${describeSizes(config)}`,
      );
    }
    const fault = size < expected
      ? `${expected - size} bytes are missing`
      : `${size - expected} bytes are left over`;
    throw new FileError(
      path,
      `has ${size} bytes, a debug state of ${B} × ${T} tokens for this model (${
        describeSizes(config)
      }) has ` +
        `${expected}: ${fault}`,
      { hint: "it is of another model, or was cut short" },
    );
  }
  if (T > config.maxT) {
    throw new FileError(
      path,
      `has sequences of ${T} tokens, longer than the model's ${config.maxT} positions`,
    );
  }
  return { B, T };
}

function describeSizes({ maxT, V, L, C }: GPT2Config): string {
  return `maxT ${maxT}, V ${V}, L ${L}, C ${C}`;
}

function checkIds(path: string, what: string, ids: Int32Array, T: number, V: number): void {
  const wrong = ids.findIndex((id) => id < 0 || id >= V);
  if (wrong < 0) return;
  throw new FileError(
    path,
    `${what} ${wrong % T} of sequence ${Math.floor(wrong / T)} is ${ids[wrong]}, expected an id from 0 to ${
      V - 1
    }`,
    { hint: "the file is damaged, or of a model with another vocabulary" },
  );
}

/**
 * Writes a debug state, whole or not at all.
 *
 * @throws {FileError} it can't be written
 */
export async function writeDebugState(path: string, source: DebugStateSource): Promise<void> {
  const { B, T, tokens, targets, logits, loss, gradients } = source;
  await writeFileAtomically(path, (file) => {
    const write = ({ buffer, byteOffset, byteLength }: Int32Array | Float32Array): void =>
      writeFully(file, new Uint8Array(buffer, byteOffset, byteLength));
    const header = new Int32Array(HEADER_BYTES / 4);
    header.set([MAGIC, VERSION, B, T]);
    write(header);
    write(tokens);
    write(targets);
    write(logits);
    write(Float32Array.of(loss));
    for (const { name } of TENSORS) write(float32(gradients.whole[name]));
  });
}
