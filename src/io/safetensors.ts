/**
 * Hugging Face's safetensors: a 64-bit header length, a JSON header of names, dtypes, shapes and byte ranges, then the
 * data. Format and rules: https://huggingface.co/docs/safetensors
 *
 * @module
 */
import { elements } from "../../ffi/tensor.ts";
import { bf16ToFp32, fp32ToBf16 } from "../bfloat16.ts";
import { FileError } from "../errors.ts";
import {
  checkSize,
  describeContent,
  openForReading,
  readFully,
  writeFileAtomically,
  writeFully,
} from "./files.ts";

/** Bytes of an element, by dtype. */
const DTYPE_BYTES: Readonly<Record<string, number>> = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  U16: 2,
  I16: 2,
  F16: 2,
  BF16: 2,
  U32: 4,
  I32: 4,
  F32: 4,
  U64: 8,
  I64: 8,
  F64: 8,
};

/** Numbers that are converted at a time. */
const CHUNK = 1 << 20;

/** The dtypes that are read as numbers of ours. */
const FLOATS = ["F32", "F16", "BF16"];

/** The format's own limit: a longer header is taken for damage or an attack. */
const MAX_HEADER_BYTES = 100_000_000;

/** Where one tensor lies in a file. */
export interface SafetensorsEntry {
  readonly name: string;
  /** "F32", "BF16" … as the file has it. */
  readonly dtype: string;
  readonly shape: readonly number[];
  /** Offset of its first byte from the start of the file. */
  readonly offset: number;
  readonly bytes: number;
}

/** An open safetensors file. Tensors are read when asked for, one at a time. */
export interface SafetensorsFile extends Disposable {
  readonly entries: ReadonlyMap<string, SafetensorsEntry>;
  /** The header's `__metadata__`. */
  readonly metadata: ReadonlyMap<string, string>;
  /**
   * The numbers of an F32, F16 or BF16 tensor.
   *
   * @throws {FileError} there is no such tensor, or its dtype is another
   */
  floats(name: string): Float32Array<ArrayBuffer>;
  /**
   * Fills `out` with the numbers of an F32, F16 or BF16 tensor, from the one at index `first` on: a large tensor can be
   * read in pieces.
   *
   * @throws {FileError} there is no such tensor, or its dtype is another
   * @throws {RangeError} it has fewer numbers
   */
  read(name: string, first: number, out: Float32Array<ArrayBuffer>): void;
  /**
   * The numbers of an I32 tensor.
   *
   * @throws {FileError} there is no such tensor, or its dtype is another
   */
  ints(name: string): Int32Array<ArrayBuffer>;
}

/** Whether a file that starts with these bytes is safetensors: a header length below 4 GiB, and a JSON object. */
export function isSafetensors(start: Uint8Array): boolean {
  return start.length > 8 && start[8] === "{".charCodeAt(0) &&
    start.subarray(4, 8).every((byte) => byte === 0);
}

/**
 * Opens a file and checks its whole header: every byte range must fit its shape and dtype, and together they must cover
 * the data without gap or overlap. Close it with `using` or `[Symbol.dispose]()`.
 *
 * @throws {FileError} the file is not safetensors, or is damaged
 */
export function openSafetensors(path: string): SafetensorsFile {
  const file = openForReading(path);
  try {
    const size = file.statSync().size;
    const headerBytes = readHeaderLength(file, path, size);
    const { entries, metadata, end } = parseHeader(path, readAt(file, path, 8, headerBytes));
    checkSize(file, path, end);

    const find = (name: string, kind: string, dtypes: readonly string[]): SafetensorsEntry => {
      const entry = entries.get(name);
      if (entry === undefined) throw new FileError(path, `has no tensor "${name}"`);
      if (!dtypes.includes(entry.dtype)) {
        throw new FileError(
          path,
          `tensor "${name}" has dtype ${entry.dtype}, expected ${kind}: ${dtypes.join(", ")}`,
        );
      }
      return entry;
    };
    let narrow: Uint16Array<ArrayBuffer> | undefined;
    const read = (name: string, first: number, out: Float32Array<ArrayBuffer>): void => {
      const { dtype, offset, bytes } = find(name, "floats", FLOATS);
      const itemBytes = DTYPE_BYTES[dtype]!;
      if ((first + out.length) * itemBytes > bytes) {
        throw new RangeError(`Tensor "${name}" has no numbers ${first} to ${first + out.length}`);
      }
      const start = offset + first * itemBytes;
      if (dtype === "F32") {
        fillAt(file, path, start, new Uint8Array(out.buffer, out.byteOffset, out.byteLength));
        return;
      }
      narrow ??= new Uint16Array(CHUNK);
      for (let i = 0; i < out.length; i += CHUNK) {
        const part = out.subarray(i, i + CHUNK);
        const { buffer } = narrow;
        fillAt(file, path, start + 2 * i, new Uint8Array(buffer, 0, 2 * part.length));
        if (dtype === "F16") part.set(new Float16Array(buffer, 0, part.length));
        else bf16ToFp32(part, narrow.subarray(0, part.length));
      }
    };
    return {
      entries,
      metadata,
      read,
      floats(name): Float32Array<ArrayBuffer> {
        const out = new Float32Array(elements(find(name, "floats", FLOATS).shape));
        read(name, 0, out);
        return out;
      },
      ints(name): Int32Array<ArrayBuffer> {
        const entry = find(name, "whole numbers", ["I32"]);
        return new Int32Array(readAt(file, path, entry.offset, entry.bytes).buffer);
      },
      [Symbol.dispose]: () => file.close(),
    };
  } catch (error) {
    file.close();
    throw error;
  }
}

function readAt(file: Deno.FsFile, path: string, offset: number, bytes: number): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(bytes);
  fillAt(file, path, offset, out);
  return out;
}

function fillAt(file: Deno.FsFile, path: string, offset: number, out: Uint8Array): void {
  file.seekSync(offset, Deno.SeekMode.Start);
  const read = readFully(file, out);
  if (read < out.length) {
    throw new FileError(path, `ends at byte ${offset + read}, expected ${offset + out.length} or more`);
  }
}

function readHeaderLength(file: Deno.FsFile, path: string, size: number): number {
  const start = readAt(file, path, 0, Math.min(size, 128));
  if (size >= 8) {
    const length = new DataView(start.buffer).getBigUint64(0, true);
    if (length >= 2n && length <= BigInt(Math.min(MAX_HEADER_BYTES, size - 8))) return Number(length);
  }
  const { found, hint } = describeContent(start);
  throw new FileError(
    path,
    `is ${found}, expected a safetensors file: 8 bytes with the length of a header that fits the file's ${size} bytes`,
    hint === undefined ? {} : { hint },
  );
}

/** The header's tensors, in the order of their data, its metadata, and the file's size that it calls for. */
function parseHeader(
  path: string,
  header: Uint8Array,
): { entries: Map<string, SafetensorsEntry>; metadata: Map<string, string>; end: number } {
  const dataStart = 8 + header.byteLength;
  const entries: SafetensorsEntry[] = [];
  let metadata = new Map<string, string>();
  for (const [name, value] of Object.entries(parseObject(path, header))) {
    if (name === "__metadata__") metadata = parseMetadata(path, value);
    else entries.push(parseEntry(path, name, value, dataStart));
  }

  entries.sort((a, b) => a.offset - b.offset || a.bytes - b.bytes);
  let end = dataStart;
  for (const { name, offset, bytes } of entries) {
    if (offset !== end) {
      throw new FileError(
        path,
        `data of tensor "${name}" starts at byte ${offset}, expected ${end}: no gap, no overlap`,
      );
    }
    end += bytes;
  }
  return { entries: new Map(entries.map((entry) => [entry.name, entry])), metadata, end };
}

function parseObject(path: string, header: Uint8Array): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(header));
  } catch (error) {
    throw new FileError(path, `header is not JSON: ${(error as Error).message}`, { cause: error });
  }
  if (!isObject(value)) throw new FileError(path, "header is not a JSON object");
  return value;
}

function parseMetadata(path: string, value: unknown): Map<string, string> {
  if (!isObject(value)) throw new FileError(path, "`__metadata__` is not a JSON object");
  return new Map(
    Object.entries(value).map(([key, text]) => {
      if (typeof text !== "string") throw new FileError(path, `metadata "${key}" is not a string`);
      return [key, text];
    }),
  );
}

function parseEntry(path: string, name: string, value: unknown, dataStart: number): SafetensorsEntry {
  const fail = (what: string): never => {
    throw new FileError(path, `tensor "${name}": ${what}`);
  };
  if (!isObject(value)) return fail("entry is not a JSON object");
  const { dtype, shape, data_offsets: range } = value;
  if (typeof dtype !== "string" || !Object.hasOwn(DTYPE_BYTES, dtype)) {
    return fail(`unknown dtype ${JSON.stringify(dtype)}`);
  }
  if (!isCounts(shape)) return fail(`shape is ${JSON.stringify(shape)}, expected an array of whole numbers`);
  if (!isCounts(range) || range.length !== 2) {
    return fail(`data_offsets is ${JSON.stringify(range)}, expected [begin, end]`);
  }
  const [begin, end] = range as [number, number];
  const bytes = byteLength(dtype, shape);
  if (end - begin !== bytes) fail(`${end - begin} bytes of data, expected ${bytes} for ${dtype} [${shape}]`);
  return { name, dtype, shape, offset: dataStart + begin, bytes };
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((item) => Number.isSafeInteger(item) && item >= 0);
}

/** A tensor to be written. */
export interface SafetensorsSource {
  readonly name: string;
  readonly shape: readonly number[];
  /** Its numbers, made when their turn comes and not used after the next is: all tensors can share one buffer. */
  readonly values: () => Float32Array;
}

/**
 * Writes a file, whole or not at all: tensors in the order given, all of one dtype. BF16 rounds to the nearest, ties to
 * even.
 *
 * @throws {FileError} it can't be written
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly SafetensorsSource[],
  dtype: "F32" | "BF16",
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  const header: Record<string, unknown> = { __metadata__: metadata };
  let end = 0;
  for (const { name, shape } of tensors) {
    const begin = end;
    end += byteLength(dtype, shape);
    header[name] = { dtype, shape, data_offsets: [begin, end] };
  }
  const text = new TextEncoder().encode(JSON.stringify(header));
  const padded = new Uint8Array(Math.ceil(text.length / 8) * 8).fill(" ".charCodeAt(0)); // so that data is aligned
  padded.set(text);

  await writeFileAtomically(path, (file) => {
    writeFully(file, new Uint8Array(BigUint64Array.of(BigInt(padded.length)).buffer));
    writeFully(file, padded);
    const narrow = new Uint16Array(dtype === "BF16" ? CHUNK : 0);
    for (const { name, shape, values: make } of tensors) {
      const values = make();
      if (values.length !== elements(shape)) {
        throw new RangeError(`Tensor "${name}" [${shape}] came with ${values.length} numbers`);
      }
      if (dtype === "F32") {
        writeFully(file, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
        continue;
      }
      for (let i = 0; i < values.length; i += CHUNK) {
        const part = values.subarray(i, i + CHUNK);
        fp32ToBf16(narrow.subarray(0, part.length), part);
        writeFully(file, new Uint8Array(narrow.buffer, 0, 2 * part.length));
      }
    }
  });
}

function byteLength(dtype: string, shape: readonly number[]): number {
  return elements(shape) * DTYPE_BYTES[dtype]!;
}
