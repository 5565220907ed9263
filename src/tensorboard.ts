/**
 * TensorBoard event files: records of a protobuf `Event` each, framed as TFRecord (length, masked CRC-32C of the length,
 * data, masked CRC-32C of the data). Field numbers are those of TensorFlow's event.proto and summary.proto. No npm library
 * writes these files, so this does, on Protobuf-ES's encoder and AWS's checksum.
 *
 * @module
 */
import { join } from "@std/path";
import { Crc32c } from "@aws-crypto/crc32c";
import { BinaryWriter, WireType } from "@bufbuild/protobuf/wire";
import { folderEntries, systemError, writeFully } from "./io/files.ts";

/** `Event`, `SessionLog`, `Summary` and `Summary.Value`: the fields used. */
const EVENT = { wallTime: 1, step: 2, fileVersion: 3, summary: 5, sessionLog: 7 } as const;
const SESSION_STATUS = 1;
const SESSION_START = 1;
const SUMMARY_VALUE = 1;
const VALUE = { tag: 1, simpleValue: 2 } as const;

/** An open event file. */
export interface EventFile extends Disposable {
  /** Adds the values of a step; those that are not finite too, which TensorBoard marks as such. */
  scalars(step: number, values: Readonly<Record<string, number>>): void;
}

/**
 * Opens a new event file in a folder.
 *
 * @param resumeAt the step a run goes on from: TensorBoard then drops what earlier files of the folder say of later steps
 * @throws {FileError} it can't be written
 */
export function openEventFile(folder: string, resumeAt?: number): EventFile {
  const { file, path } = createFile(folder);
  const write = (step: number, fill: (event: BinaryWriter) => void): void => {
    const event = new BinaryWriter();
    event.tag(EVENT.wallTime, WireType.Bit64).double(Date.now() / 1000);
    event.tag(EVENT.step, WireType.Varint).int64(step);
    fill(event);
    try {
      writeFully(file, record(event.finish()));
    } catch (error) {
      throw systemError(path, "cannot be written", error);
    }
  };
  write(0, (event) => event.tag(EVENT.fileVersion, WireType.LengthDelimited).string("brain.Event:2"));
  // At the start of a session TensorBoard drops what it has read of this step and later ones; but only from the second start
  // in a folder on, so that a new run's file has one too.
  write(resumeAt === undefined ? 0 : resumeAt + 1, (event) => {
    event.tag(EVENT.sessionLog, WireType.LengthDelimited).fork();
    event.tag(SESSION_STATUS, WireType.Varint).int32(SESSION_START).join();
  });
  return {
    scalars(step, values): void {
      write(step, (event) => {
        event.tag(EVENT.summary, WireType.LengthDelimited).fork();
        for (const [tag, value] of Object.entries(values)) {
          event.tag(SUMMARY_VALUE, WireType.LengthDelimited).fork();
          event.tag(VALUE.tag, WireType.LengthDelimited).string(tag);
          event.tag(VALUE.simpleValue, WireType.Bit32).float(value).join();
        }
        event.join();
      });
    },
    [Symbol.dispose](): void {
      file.close();
    },
  };
}

/**
 * Empties the event files that this program wrote into a folder, and no others. They stay: a TensorBoard that is reading one
 * would not go on to the next if it were gone.
 *
 * @throws {FileError} one can't be emptied
 */
export function emptyEventFiles(folder: string): void {
  for (const { name } of folderEntries(folder)) {
    if (!/^events\.out\.tfevents\.\d+\.llmts\.\d+$/.test(name)) continue;
    const path = join(folder, name);
    try {
      Deno.truncateSync(path);
    } catch (error) {
      throw systemError(path, "cannot be emptied", error);
    }
  }
}

/** TensorBoard reads the files of a folder in the order of their names: by second, then by number. */
function createFile(folder: string): { file: Deno.FsFile; path: string } {
  const seconds = Math.floor(Date.now() / 1000);
  for (let number = 0;; number++) {
    const path = join(folder, `events.out.tfevents.${seconds}.llmts.${number}`);
    try {
      return { file: Deno.openSync(path, { write: true, createNew: true }), path };
    } catch (error) {
      if (!(error instanceof Deno.errors.AlreadyExists)) throw systemError(path, "cannot be written", error);
    }
  }
}

function record(data: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(16 + data.length);
  const view = new DataView(bytes.buffer);
  view.setBigUint64(0, BigInt(data.length), true);
  view.setUint32(8, maskedChecksum(bytes.subarray(0, 8)), true);
  bytes.set(data, 12);
  view.setUint32(12 + data.length, maskedChecksum(data), true);
  return bytes;
}

/** Masked as TFRecord asks, so that a checksum of data that holds checksums stays a good one. */
function maskedChecksum(data: Uint8Array): number {
  const crc = new Crc32c().update(data).digest();
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}
