/**
 * Optimizer state in llm.c's format (`state_00000040_00000.bin`: step, rank), what it takes beside the weights to go on
 * training: a header of 256 int32 (magic 20240527, version 1), AdamW's moments m and v and, where they are kept, the
 * master weights, all fp32 and in checkpoint order without gaps; then, if the data is shuffled, its order and generator.
 *
 * @module
 */
import type { Device } from "../../ffi/device.ts";
import { elements } from "../../ffi/tensor.ts";
import type { GPT2Config } from "../config.ts";
import { FileError } from "../errors.ts";
import { parameterCount, type Parameters, TENSORS } from "../parameters.ts";
import type { RandomState } from "../random.ts";
import { fp32Pieces } from "../weights.ts";
import {
  checkSize,
  HEADER_BYTES,
  openForReading,
  readFully,
  readHeader,
  writeFileAtomically,
  writeFully,
} from "./files.ts";
import type { LoaderState, ShuffleState } from "./loader.ts";

const MAGIC = 20240527;
const VERSION = 1;

/** Header fields; those of 64 bits take two. */
const FIELD = {
  world: 2,
  rank: 3,
  hasMaster: 4,
  shuffles: 5,
  step: 10,
  rounding: 20,
  roundingBefore: 22,
  shard: 30,
  sample: 32,
} as const;

/** llm.c's mt19937_state on x86-64: uint64 seed, int32 left, uint32 next, 624 words, the twister's two constants. */
const TWISTER = { bytes: 2520, left: 8, next: 12, words: 16, constants: 2512, count: 624 } as const;
/** What llm.c takes for an unset generator if it isn't there. */
const TWISTER_CONSTANT = 0x9908b0df;

/** What llm.c's generator for stochastic rounding begins with. At 0 it would stay. */
export const ROUNDING_SEED = 13371337n;

/** The tensors of a state file. */
export interface OptimizerTensors {
  /** Where they are. */
  readonly device: Device;
  readonly m: Parameters;
  readonly v: Parameters;
  /** Null: none are kept. */
  readonly master: Parameters | null;
}

/** What a state file says beside its tensors. */
export interface TrainingState {
  /** Updates made so far. */
  readonly step: number;
  /** Where the data loader is. The format has no epoch: one that is read says 0. */
  readonly loader: LoaderState;
  /** llm.c's generator for stochastic rounding, 64 bits, and what it was before the last update. */
  readonly rounding: bigint;
  readonly roundingBefore: bigint;
}

/** Which of how many processes a state is of. */
export interface ProcessPlace {
  readonly rank: number;
  readonly world: number;
}

const ALONE: ProcessPlace = { rank: 0, world: 1 };

/** The size of a state file. */
export function stateBytes(config: GPT2Config, master: boolean, shuffle: ShuffleState | null): number {
  const tail = shuffle === null
    ? 0
    : 16 + 4 * (shuffle.shards.length + shuffle.samples.length) + TWISTER.bytes;
  return tensorsEnd(config, master) + tail;
}

function tensorsEnd(config: GPT2Config, master: boolean): number {
  return HEADER_BYTES + 4 * parameterCount(config) * (master ? 3 : 2);
}

/** Writes a state file, whole or not at all. @throws {FileError} it can't be written */
export async function writeState(
  path: string,
  { device, m, v, master }: OptimizerTensors,
  state: TrainingState,
  { rank, world }: ProcessPlace = ALONE,
): Promise<void> {
  const { step, loader: { shard, sample, shuffle }, rounding, roundingBefore } = state;
  await writeFileAtomically(path, (file) => {
    const header = new Int32Array(HEADER_BYTES / 4);
    const view = new DataView(header.buffer);
    header.set([MAGIC, VERSION]);
    header[FIELD.world] = world;
    header[FIELD.rank] = rank;
    header[FIELD.hasMaster] = master === null ? 0 : 1;
    header[FIELD.shuffles] = shuffle === null ? 0 : 1;
    header[FIELD.step] = step;
    view.setBigUint64(4 * FIELD.rounding, rounding, true);
    view.setBigUint64(4 * FIELD.roundingBefore, roundingBefore, true);
    view.setBigUint64(4 * FIELD.shard, BigInt(shard), true);
    view.setBigUint64(4 * FIELD.sample, BigInt(sample + 1), true); // llm.c's index is of the next sample
    writeFully(file, new Uint8Array(header.buffer));
    for (const parameters of [m, v, master]) {
      if (parameters === null) continue;
      for (const { name } of TENSORS) {
        for (const piece of fp32Pieces(device, parameters.whole[name])) {
          const values = device.read(piece);
          writeFully(file, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
        }
      }
    }
    if (shuffle === null) return;
    for (const order of [shuffle.shards, shuffle.samples]) {
      writeFully(file, new Uint8Array(BigUint64Array.of(BigInt(order.length)).buffer));
      writeFully(file, new Uint8Array(order.buffer, order.byteOffset, order.byteLength));
    }
    writeFully(file, encodeTwister(shuffle.random));
  });
}

/** What the header of a state file says of the run it is of. */
export interface StateHeader {
  /** Updates made so far. */
  readonly step: number;
  readonly hasMaster: boolean;
  readonly shuffles: boolean;
}

/**
 * Reads and checks the header of a state file.
 *
 * @throws {FileError} the file is damaged, of another format or process
 */
export function readStateHeader(path: string, place: ProcessPlace = ALONE): StateHeader {
  using file = openForReading(path);
  return stateHeader(path, readHeader(file, path, { magic: MAGIC, versions: [VERSION] }), place);
}

function stateHeader(path: string, header: Int32Array, { rank, world }: ProcessPlace): StateHeader {
  if (header[FIELD.world] !== world || header[FIELD.rank] !== rank) {
    throw new FileError(
      path,
      `is of process ${header[FIELD.rank]} of ${header[FIELD.world]}, expected process ${rank} of ${world}`,
      {
        hint:
          "the state of a run of several processes can't be put together: --model trains its weights further",
      },
    );
  }
  const hasMaster = flag(path, "uses master weights", header[FIELD.hasMaster]!);
  const shuffles = flag(path, "shuffles", header[FIELD.shuffles]!);
  const step = header[FIELD.step]!;
  if (step < 0) throw new FileError(path, `says it is of step ${step}`);
  return { step, hasMaster, shuffles };
}

/**
 * Reads a state file into the optimizer's tensors. Nothing is changed before all of the file's form has been checked.
 *
 * @param tensors of the model's config; `master` null: master weights in the file are left unread
 * @throws {FileError} the file is damaged, of another format, model or process, or lacks the master weights
 */
export function readState(
  path: string,
  { device, m, v, master }: OptimizerTensors,
  place: ProcessPlace = ALONE,
): TrainingState {
  using file = openForReading(path);
  const header = readHeader(file, path, { magic: MAGIC, versions: [VERSION] });
  const view = new DataView(header.buffer);
  const long = (field: number): bigint => view.getBigUint64(4 * field, true);
  const { step, hasMaster, shuffles } = stateHeader(path, header, place);
  if (master !== null && !hasMaster) {
    throw new FileError(path, "has no master weights, which training in this precision goes on from");
  }

  const end = tensorsEnd(m.config, hasMaster);
  const { size } = file.statSync();
  if (size < end) {
    throw new FileError(path, `has ${size} bytes, the optimizer state of this model takes at least ${end}`, {
      hint: "it is of another model, or was cut short",
    });
  }
  file.seekSync(end, Deno.SeekMode.Start);
  const shuffle = shuffles ? readShuffle(file, path, size) : null;
  checkSize(file, path, stateBytes(m.config, hasMaster, shuffle));

  file.seekSync(HEADER_BYTES, Deno.SeekMode.Start);
  for (const parameters of [m, v, hasMaster ? master : null]) {
    if (parameters === null) continue;
    for (const { name } of TENSORS) {
      const tensor = parameters.whole[name];
      const values = new Float32Array(elements(tensor.shape));
      readFully(file, new Uint8Array(values.buffer));
      device.write(tensor, values);
    }
  }
  return {
    step,
    loader: {
      shard: Number(long(FIELD.shard)),
      sample: Number(long(FIELD.sample)) - 1,
      epoch: 0,
      shuffle,
    },
    rounding: long(FIELD.rounding),
    roundingBefore: long(FIELD.roundingBefore),
  };
}

function flag(path: string, meaning: string, value: number): boolean {
  if (value === 0 || value === 1) return value === 1;
  throw new FileError(path, `has ${value} where its header says whether it ${meaning}, expected 0 or 1`);
}

/** @throws {FileError} the orders and the generator are not all there, or the generator is in no state one can be in */
function readShuffle(file: Deno.FsFile, path: string, size: number): ShuffleState {
  const bytes = (count: number): Uint8Array<ArrayBuffer> => {
    if (count > size - file.seekSync(0, Deno.SeekMode.Current)) {
      throw new FileError(path, "ends in the middle of the order of the data", {
        hint: "it is of another model, or was cut short",
      });
    }
    const buffer = new Uint8Array(count);
    readFully(file, buffer);
    return buffer;
  };
  const order = (): Int32Array<ArrayBuffer> => {
    const length = new BigUint64Array(bytes(8).buffer)[0]!;
    return new Int32Array(bytes(4 * Number(length)).buffer);
  };
  return { shards: order(), samples: order(), random: decodeTwister(path, bytes(TWISTER.bytes)) };
}

function encodeTwister({ words, left, next }: RandomState): Uint8Array {
  const bytes = new Uint8Array(TWISTER.bytes); // the seed, which llm.c leaves unset, stays 0
  const view = new DataView(bytes.buffer);
  view.setInt32(TWISTER.left, left, true);
  view.setUint32(TWISTER.next, next, true);
  words.forEach((word, i) => view.setUint32(TWISTER.words + 4 * i, word, true));
  view.setUint32(TWISTER.constants + 4, TWISTER_CONSTANT, true);
  return bytes;
}

function decodeTwister(path: string, bytes: Uint8Array): RandomState {
  const view = new DataView(bytes.buffer);
  const [zero, constant] = [0, 4].map((offset) => view.getUint32(TWISTER.constants + offset, true));
  const left = view.getInt32(TWISTER.left, true);
  const next = view.getUint32(TWISTER.next, true);
  const fresh = left === 1 && next === 0;
  const possible = fresh || (left >= 1 && left <= TWISTER.count && left + next === TWISTER.count + 1);
  if (zero !== 0 || constant !== TWISTER_CONSTANT || !possible) {
    throw new FileError(path, "has no mt19937 generator where its data order ends", {
      hint: "it is of another model, or damaged",
    });
  }
  const words = Uint32Array.from(
    { length: TWISTER.count },
    (_, i) => view.getUint32(TWISTER.words + 4 * i, true),
  );
  return { words, left, next, carriedNormal: undefined };
}
