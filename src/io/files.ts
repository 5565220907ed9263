/**
 * What every file format here shares: writing that never leaves half a file, reading that never stops half way, the
 * header of 256 int32 (llm.c's), and a plain description of a file that is something else.
 *
 * Integers are little-endian, as is every machine Deno runs on, so typed arrays read and write them as they are.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { basename, dirname, join } from "@std/path";
import { FileError } from "../errors.ts";

/** Bytes of the header that starts every llm.c file: 256 int32. */
export const HEADER_BYTES = 1024;

/** First header field of the formats of this family, to name a file that was given in place of another. */
const FORMATS: ReadonlyMap<number, string> = new Map([
  [20240326, "model checkpoint"],
  [20240327, "debug state"],
  [20240328, "tokenizer file"],
  [20240520, "token file"],
  [20240522, "HellaSwag file"],
  [20240527, "training state"],
  [20240801, "token file of uint32 ids (Llama 3)"],
]);

/** What a header must hold. */
export interface HeaderFormat {
  /** Header field 0. */
  readonly magic: number;
  /** The versions (header field 1) that the caller can read. */
  readonly versions: readonly number[];
  /** What to do about a text in its place. */
  readonly textHint?: string;
}

/**
 * Opens a file for reading. That names the file too, where the system can't go on with it (a disk that fails).
 *
 * @param hint how to come by the file
 * @param options.pipes whether a pipe or a device will do, which can be read only once and from start to end
 * @throws {FileError} it does not exist, may not be read, or is a folder or a pipe
 */
export function openForReading(
  path: string,
  hint?: string,
  { pipes = false }: { pipes?: boolean } = {},
): Deno.FsFile {
  let file: Deno.FsFile;
  try {
    file = Deno.openSync(path);
  } catch (error) {
    throw systemError(path, "cannot be opened", error, hint);
  }
  const { isDirectory, isFile } = file.statSync();
  if (isDirectory || !(isFile || pipes)) {
    file.close();
    if (isDirectory) throw new FileError(path, "is a folder, expected a file");
    throw new FileError(path, "is a pipe or a device, expected a file, which is read in any order", {
      hint: "write what comes out of it to a file first",
    });
  }
  const readSync = file.readSync.bind(file);
  file.readSync = (buffer): number | null => {
    try {
      return readSync(buffer);
    } catch (error) {
      throw systemError(path, "cannot be read", error);
    }
  };
  return file;
}

/** Fills `buffer` from the file's position on; the number of bytes read is below its length only at the end of the file. */
export function readFully(file: Deno.FsFile, buffer: Uint8Array): number {
  let done = 0;
  while (done < buffer.length) {
    const read = file.readSync(buffer.subarray(done));
    if (read === null) break;
    done += read;
  }
  return done;
}

/** The hash, in hex, of `prefix` and what the file holds from its position on. */
export function hashFile(file: Deno.FsFile, algorithm: "sha256" | "sha1", prefix = ""): string {
  const hash = createHash(algorithm).update(prefix);
  const chunk = new Uint8Array(1 << 20);
  for (let read = file.readSync(chunk); read !== null; read = file.readSync(chunk)) {
    hash.update(chunk.subarray(0, read));
  }
  return hash.digest("hex");
}

/** Writes all of `bytes` at the file's position, however many calls that takes. */
export function writeFully(file: Deno.FsFile, bytes: Uint8Array): void {
  let done = 0;
  while (done < bytes.length) done += file.writeSync(bytes.subarray(done));
}

/**
 * Reads the header of 256 int32 at the start of an open file and checks magic and version. The file's position is
 * after the header then.
 *
 * @throws {FileError} the file is of another format (a web page, a Git LFS pointer, empty … are named) or version
 */
export function readHeader(
  file: Deno.FsFile,
  path: string,
  { magic, versions, textHint }: HeaderFormat,
): Int32Array {
  const header = new Int32Array(HEADER_BYTES / 4);
  const bytes = new Uint8Array(header.buffer);
  const length = readFully(file, bytes);
  const format = FORMATS.get(magic) ?? "file";
  const expected = `expected a ${format} (magic ${magic}, version ${versions.join(" or ")})`;
  if (length < 4 || header[0] !== magic) {
    const { found, hint } = describeContent(bytes.subarray(0, length), textHint);
    throw new FileError(path, `is ${found}, ${expected}`, hint === undefined ? {} : { hint });
  }
  if (length < HEADER_BYTES) {
    throw new FileError(path, `ends after ${length} bytes of its header of ${HEADER_BYTES}`, {
      hint: CUT_SHORT,
    });
  }
  if (!versions.includes(header[1]!)) {
    throw new FileError(path, `is a ${format} of version ${header[1]}, ${expected}`);
  }
  return header;
}

/**
 * Checks the size of an open file against the size its header calls for.
 *
 * @throws {FileError} it is shorter or longer
 */
export function checkSize(file: Deno.FsFile, path: string, expected: number): void {
  const { size } = file.statSync();
  if (size === expected) return;
  const fault = size < expected
    ? `${expected - size} bytes are missing`
    : `${size - expected} bytes are left over`;
  throw new FileError(
    path,
    `has ${size} bytes, its header calls for ${expected}: ${fault}`,
    size < expected ? { hint: CUT_SHORT } : {},
  );
}

const CUT_SHORT = "the file was cut short: make or download it again";

/** Model files of other programs by their first bytes, in Latin-1. */
const FOREIGN: readonly [start: string, found: string][] = [
  ["PK\x03\x04", "a zip archive, as PyTorch's .pt and .bin files are"],
  ["\x80\x02", "a pickle, as PyTorch's older .pt and .bin files are"],
  ["\x89HDF", "an HDF5 file, as TensorFlow's models are"],
  ["GGUF", "a GGUF file, as llama.cpp's models are"],
  ["lmgg", "a ggml file, as llama.cpp's older models are"],
];

/** Names what a file holds by its first bytes, where that is not the format that was expected. */
export function describeContent(
  bytes: Uint8Array,
  textHint = "if it was downloaded, the server has answered this in place of the file",
): { found: string; hint?: string } {
  if (bytes.length === 0) return { found: "empty", hint: CUT_SHORT };
  const text = new TextDecoder().decode(bytes.subarray(0, 128));
  if (text.startsWith("version https://git-lfs.github.com/spec/")) {
    return { found: "a Git LFS pointer", hint: "git lfs pull fetches the file it points to" };
  }
  if (/^\s*<(!|\?xml|[a-z]+[\s>])/i.test(text)) {
    return {
      found: "a web page",
      hint: "the download gave a page in place of the file: open its address in a browser",
    };
  }
  const foreign = FOREIGN.find(([start]) =>
    start === String.fromCharCode(...bytes.subarray(0, start.length))
  );
  if (foreign !== undefined) {
    return { found: foreign[1], hint: "save_pretrained of a new transformers writes safetensors" };
  }
  if (bytes[0] === 0x1f && bytes[1] === 0x8b) {
    return { found: "packed by gzip", hint: "gunzip unpacks it" };
  }
  // Text is what has no control characters but white space, and no bytes that are not UTF-8.
  // deno-lint-ignore no-control-regex
  if (!/[\x00-\x08\x0e-\x1f\x7f\ufffd]/.test(text.slice(0, 32))) {
    return { found: `text that begins ${JSON.stringify(text.slice(0, 32))}`, hint: textHint };
  }
  if (bytes.length < 4) return { found: `${bytes.length} bytes long`, hint: CUT_SHORT };
  const magic = new DataView(bytes.buffer, bytes.byteOffset).getInt32(0, true);
  const format = FORMATS.get(magic);
  return { found: format === undefined ? `a file with magic ${magic}` : `a ${format} (magic ${magic})` };
}

/**
 * Writes a file so that `path` holds either what it held before or the whole new file: into a temporary file in the
 * same folder ({@linkcode temporaryPath}), flushed to disk, then renamed. If writing fails the temporary file is removed.
 *
 * @param write fills the open file, which can also be read and sought in
 * @returns what `write` returned
 * @throws {FileError} the operating system refused (no such folder, no permission, disk full …)
 */
export async function writeFileAtomically<T>(
  path: string,
  write: (file: Deno.FsFile) => T | Promise<T>,
): Promise<T> {
  const temporary = temporaryPath(path);
  let file: Deno.FsFile;
  try {
    file = await Deno.open(temporary, { read: true, write: true, createNew: true });
  } catch (error) {
    throw systemError(path, "cannot be written", error);
  }
  let open = true;
  try {
    const result = await write(file);
    await file.sync();
    file.close();
    open = false;
    await Deno.rename(temporary, path);
    await syncFolder(dirname(path));
    return result;
  } catch (error) {
    if (open) file.close();
    await Deno.remove(temporary).catch(() => {}); // the first error is the one to report
    throw systemError(path, "cannot be written", error);
  }
}

/** Writes a text as {@linkcode writeFileAtomically} writes. @throws {FileError} the operating system refused */
export async function writeTextAtomically(path: string, text: string): Promise<void> {
  await writeFileAtomically(path, (file) => writeFully(file, new TextEncoder().encode(text)));
}

/** A name in the same folder that nothing else has: it starts with a dot and ends in `.tmp`. */
export function temporaryPath(path: string): string {
  return join(dirname(path), `.${basename(path)}.${crypto.randomUUID().slice(0, 8)}.tmp`);
}

/** Removes the temporary files that killed writers of a file left beside it. @throws {FileError} one can't be removed */
export function removeTemporaries(path: string): void {
  const folder = dirname(path);
  const temporary = new RegExp(`^\\.${RegExp.escape(basename(path))}\\.[0-9a-f]{8}\\.tmp$`);
  for (const { name, isFile } of folderEntries(folder)) {
    if (isFile && temporary.test(name)) removeFile(join(folder, name));
  }
}

/** Makes a rename in the folder last through a power cut, where the system lets a folder be flushed. */
async function syncFolder(path: string): Promise<void> {
  try {
    using folder = await Deno.open(path);
    await folder.sync();
  } catch {
    // Windows and some network file systems refuse; the file itself is whole all the same.
  }
}

/** Creates a folder and those above it; one that exists is fine. */
export async function makeFolder(path: string): Promise<void> {
  try {
    await Deno.mkdir(path, { recursive: true });
  } catch (error) {
    throw systemError(path, "cannot be made a folder", error);
  }
}

/** Whether there is a file or folder of that name. @throws {FileError} the system doesn't tell */
export function exists(path: string): boolean {
  return stat(path) !== undefined;
}

/** Whether there is a folder of that name. @throws {FileError} as {@linkcode exists} */
export function isFolder(path: string): boolean {
  return stat(path)?.isDirectory ?? false;
}

/** Whether there is a file of that name. @throws {FileError} as {@linkcode exists} */
export function isFile(path: string): boolean {
  return stat(path)?.isFile ?? false;
}

/** When a file was last written, in milliseconds; 0 where it is gone. @throws {FileError} as {@linkcode exists} */
export function timeWritten(path: string): number {
  return stat(path)?.mtime?.getTime() ?? 0;
}

/** Errors that say there is no such file: also of a name that no file can have, such as a long list of files. */
const ABSENT: readonly unknown[] = ["ENOENT", "ENOTDIR", "ENAMETOOLONG"];

function stat(path: string): Deno.FileInfo | undefined {
  try {
    return Deno.statSync(path);
  } catch (error) {
    if (ABSENT.includes((error as { code?: unknown }).code)) return undefined;
    throw systemError(path, "cannot be opened", error);
  }
}

/** What is in a folder. @throws {FileError} it can't be read */
export function folderEntries(path: string): Deno.DirEntry[] {
  try {
    return [...Deno.readDirSync(path)];
  } catch (error) {
    throw systemError(path, "cannot be read", error);
  }
}

/** Removes a file; one that is not there is fine. @throws {FileError} it can't be removed */
export function removeFile(path: string): void {
  try {
    Deno.removeSync(path);
  } catch (error) {
    if (!(error instanceof Deno.errors.NotFound)) throw systemError(path, "cannot be removed", error);
  }
}

/** What the operating system said in a failed call, in words rather than an error number; undefined of other errors. */
export function systemReason(error: unknown): string | undefined {
  if (!(error instanceof Error) || !/\(os error \d+\)/.test(error.message)) return undefined;
  if (error instanceof Deno.errors.NotFound) return "no such file or folder";
  const words = error.message.replace(/ \(os error \d+\).*$/s, "");
  return words.replace(/^[A-Z](?=[a-z])/, (letter) => letter.toLowerCase());
}

/** A failed system call as a FileError, in words rather than an error number; any other error as it is. */
export function systemError(path: string, failure: string, error: unknown, hint?: string): unknown {
  const reason = systemReason(error);
  if (reason === undefined) return error;
  return new FileError(
    path,
    `${failure}: ${reason}`,
    hint === undefined ? { cause: error } : { cause: error, hint },
  );
}
