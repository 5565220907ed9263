/**
 * Reading UTF-8 text. A byte order mark is kept as the character U+FEFF, line ends stay as they are, and bytes that are
 * not UTF-8 are an error, never replaced.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { FileError } from "../errors.ts";
import { openForReading, readFully } from "./files.ts";

/** Bytes read at a time. */
const PIECE = 1 << 20;

/**
 * The text of a file or a pipe, about 1 MiB at a time.
 *
 * @param hint how to come by the file, for the error if it cannot be opened
 * @throws {FileError} it is missing, or not UTF-8 (the message has the offset of the first wrong byte)
 */
export function* readTextPieces(path: string, hint?: string): Generator<string> {
  using file = openForReading(path, hint, { pipes: true });
  const buffer = new Uint8Array(PIECE);
  let pending = 0; // bytes of an unfinished character at the start of the buffer
  let offset = 0; // of the buffer's start in the file
  while (true) {
    const length = pending + readFully(file, buffer.subarray(pending));
    const atEnd = length < PIECE;
    const text = decodePrefix(buffer.subarray(0, length));
    const used = Buffer.byteLength(text);
    pending = length - used;
    if (pending > 3 || (atEnd && pending > 0)) throw invalid(path, offset + used);
    if (text !== "") yield text;
    if (atEnd) return;
    buffer.copyWithin(0, used, length);
    offset += used;
  }
}

/** The text of a file, all of it. @throws {FileError} as {@linkcode readTextPieces} */
export function readText(path: string): string {
  return [...readTextPieces(path)].join("");
}

/**
 * Decodes bytes that are in memory, all of them.
 *
 * @param name what they are, for the error: a path or an address
 * @throws {FileError} they are not UTF-8
 */
export function decodeUtf8(bytes: Uint8Array, name: string): string {
  const text = decodePrefix(bytes);
  const used = Buffer.byteLength(text);
  if (used < bytes.length) throw invalid(name, used);
  return text;
}

/** The characters before the first that is invalid or, at the end, unfinished. */
function decodePrefix(bytes: Uint8Array): string {
  const decode = (length: number): string =>
    new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes.subarray(0, length), {
      stream: true,
    });
  try {
    return decode(bytes.length);
  } catch {
    // The error does not say where: find the longest prefix that can be decoded by bisection.
    let [good, bad] = [0, bytes.length];
    while (bad - good > 1) {
      const middle = Math.floor((good + bad) / 2);
      try {
        decode(middle);
        good = middle;
      } catch {
        bad = middle;
      }
    }
    return decode(good);
  }
}

function invalid(path: string, offset: number): FileError {
  return new FileError(path, `is not UTF-8 text: invalid bytes at offset ${offset}`, {
    hint: "convert it to UTF-8 first, for instance with iconv",
  });
}
