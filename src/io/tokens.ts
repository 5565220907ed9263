/**
 * Token files (`*_train.bin`, `*_val.bin`): the header of 256 int32 (magic 20240520, version 1, number of tokens), then
 * uint16 ids. Files are read by position, a range at a time, so that one larger than memory, or than 2 GiB, is no
 * different from a small one.
 *
 * @module
 */
import { FileError } from "../errors.ts";
import {
  checkSize,
  HEADER_BYTES,
  openForReading,
  readFully,
  readHeader,
  writeFileAtomically,
  writeFully,
} from "./files.ts";

const MAGIC = 20240520;
const VERSION = 1;
const MOST_TOKENS = 2 ** 31 - 1; // the count in the header is an int32
const LARGEST_ID = 65535;

/** Appends ids to the token file being written. */
export type WriteTokens = (ids: ArrayLike<number>) => void;

/**
 * Writes a token file (to a temporary name, renamed when it is whole).
 *
 * @param V ids must be in [0, V)
 * @param produce hands over the ids, in order, in as many calls as it likes
 * @returns the number of tokens written
 * @throws {FileError} an id is not in [0, V) or does not fit in 16 bits, there are 2^31 tokens or more, or the file
 * cannot be written
 */
export function writeTokenFile(
  path: string,
  V: number,
  produce: (write: WriteTokens) => void | Promise<void>,
): Promise<number> {
  const limit = Math.min(V - 1, LARGEST_ID);
  return writeFileAtomically(path, async (file) => {
    const header = new Int32Array(HEADER_BYTES / 4);
    writeFully(file, new Uint8Array(header.buffer));
    let count = 0;
    await produce((ids) => {
      const tokens = new Uint16Array(ids.length);
      for (let i = 0; i < tokens.length; i++) {
        const id = ids[i]!;
        if (!Number.isInteger(id) || id < 0 || id > limit) {
          throw new FileError(path, `cannot hold id ${id} (token ${count + i}), expected ids 0 to ${limit}`);
        }
        tokens[i] = id;
      }
      count += tokens.length;
      if (count > MOST_TOKENS) throw new FileError(path, `cannot hold more than ${MOST_TOKENS} tokens`);
      writeFully(file, new Uint8Array(tokens.buffer));
    });
    header.set([MAGIC, VERSION, count]);
    file.seekSync(0, Deno.SeekMode.Start);
    writeFully(file, new Uint8Array(header.buffer));
    return count;
  });
}

/** An open token file. */
export class TokenReader implements Disposable {
  readonly #file: Deno.FsFile;
  readonly #V: number;
  #buffer = new Uint16Array(0);

  /** The path it was opened by. */
  readonly path: string;
  /** Number of tokens in the file. */
  readonly length: number;

  /**
   * Opens a token file and checks its header against its size.
   *
   * @param V ids must be in [0, V); each is checked as it is read
   * @throws {FileError} it is missing, of another format, or damaged
   */
  constructor(path: string, V: number) {
    const file = openForReading(path, "llmts data makes token files");
    try {
      const textHint = "llmts data makes token files of text";
      const count = readHeader(file, path, { magic: MAGIC, versions: [VERSION], textHint })[2]!;
      if (count < 0) throw new FileError(path, `says it has ${count} tokens`);
      checkSize(file, path, HEADER_BYTES + 2 * count);
      this.length = count;
    } catch (error) {
      file.close();
      throw error;
    }
    this.#file = file;
    this.#V = V;
    this.path = path;
  }

  /**
   * Fills `out` with the ids at `position`, `position + 1`, …
   *
   * @throws {FileError} an id is not in [0, V)
   * @throws {RangeError} the range reaches beyond the file
   */
  read(position: number, out: Int32Array): void {
    const n = out.length;
    if (!Number.isInteger(position) || position < 0 || position + n > this.length) {
      throw new RangeError(
        `Cannot read tokens ${position} to ${position + n}: "${this.path}" has ${this.length}`,
      );
    }
    if (this.#buffer.length < n) this.#buffer = new Uint16Array(n);
    const ids = this.#buffer.subarray(0, n);
    this.#file.seekSync(HEADER_BYTES + 2 * position, Deno.SeekMode.Start);
    const bytes = readFully(this.#file, new Uint8Array(ids.buffer, 0, 2 * n));
    if (bytes < 2 * n) throw new FileError(this.path, `became shorter while it was read`);
    for (let i = 0; i < n; i++) {
      const id = ids[i]!;
      if (id >= this.#V) {
        throw new FileError(
          this.path,
          `has id ${id} at token ${position + i}, outside the model's vocabulary of ${this.#V}`,
          { hint: "the file was made with another tokenizer, or is damaged" },
        );
      }
      out[i] = id;
    }
  }

  /** Closes the file. */
  [Symbol.dispose](): void {
    this.#file.close();
  }
}
