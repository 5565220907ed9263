/**
 * Batches out of a token file: for training, round and round; for validation, every token once.
 *
 * A batch is (B,T): inputs, and as targets the token that follows each of them. So B·T + 1 tokens are read for a batch,
 * and the next one starts B·T further, where the inputs of this one ended.
 *
 * @module
 */
import { FileError } from "../errors.ts";
import type { TokenReader } from "./tokens.ts";

/** What a model is trained or scored on. The arrays are filled anew for the next batch. */
export interface Batch {
  /** (B,T) token ids. */
  readonly inputs: Int32Array<ArrayBuffer>;
  /** (B,T) ids of the tokens that follow; -1 where a position does not count. */
  readonly targets: Int32Array<ArrayBuffer>;
}

/**
 * Training batches in the order of the file. An epoch is floor((tokens - 1) / (B·T)) batches; what is left at the end of
 * the file (fewer than B·T tokens and a target) is dropped, and the next epoch starts at its beginning again.
 */
export class DataLoader {
  readonly #reader: TokenReader;
  readonly #tokens: Int32Array<ArrayBuffer>;
  readonly #batch: Batch;
  #position = 0;
  #epoch = 0;

  /** Batches in an epoch. */
  readonly batches: number;

  /** @throws {FileError} the file has fewer than B·T + 1 tokens */
  constructor(reader: TokenReader, B: number, T: number) {
    const needed = B * T + 1;
    if (reader.length < needed) {
      throw new FileError(
        reader.path,
        `has ${reader.length} tokens, a batch of ${B} × ${T} needs ${needed} (B·T + 1)`,
        { hint: "lower --batch-size or --seq-len, or give more data" },
      );
    }
    this.#reader = reader;
    this.#tokens = new Int32Array(needed);
    this.#batch = { inputs: new Int32Array(B * T), targets: new Int32Array(B * T) };
    this.batches = Math.floor((reader.length - 1) / (B * T));
  }

  /** Token at which the next batch starts. */
  get position(): number {
    return this.#position;
  }

  /** Epochs completed: that of the next batch, counted from 0. */
  get epoch(): number {
    return this.#epoch;
  }

  /** The next batch, B·T tokens on; after the last one of an epoch, the first. */
  next(): Batch {
    const { inputs, targets } = this.#batch;
    this.#reader.read(this.#position, this.#tokens);
    inputs.set(this.#tokens.subarray(0, -1));
    targets.set(this.#tokens.subarray(1));
    this.#position += inputs.length;
    if (this.#position === this.batches * inputs.length) {
      this.#position = 0;
      this.#epoch++;
    }
    return this.#batch;
  }

  /** Goes back to the first batch of the first epoch. */
  reset(): void {
    this.#position = 0;
    this.#epoch = 0;
  }
}

/** A batch of which some positions may not count. */
export interface ValidationBatch extends Batch {
  /** Positions that count: those with a target of 0 or more. */
  readonly count: number;
}

/**
 * Batches that score each token after the first once, in windows of T, up to `limit` tokens. The last batch is filled up
 * with positions that do not count, so which tokens are scored, and each one's context, depend on T but not on B: the sum
 * of all losses over the sum of all counts is the same for every B.
 *
 * @throws {FileError} the file has fewer than 2 tokens
 */
export function* validationBatches(
  reader: TokenReader,
  B: number,
  T: number,
  limit: number = Infinity,
): Generator<ValidationBatch> {
  const scored = Math.min(reader.length - 1, limit);
  if (scored < 1) {
    throw new FileError(reader.path, `has ${reader.length} tokens, validation needs at least 2`);
  }
  const tokens = new Int32Array(B * T + 1);
  const inputs = new Int32Array(B * T);
  const targets = new Int32Array(B * T);
  for (let position = 0; position < scored; position += B * T) {
    const count = Math.min(B * T, scored - position);
    reader.read(position, tokens.subarray(0, count + 1));
    inputs.fill(0).set(tokens.subarray(0, count));
    targets.fill(-1).set(tokens.subarray(1, count + 1));
    yield { inputs, targets, count };
  }
}
