/**
 * llm.c's tokenizer file (`gpt2_tokenizer.bin`): the header of 256 int32 (magic 20240328, version, number of tokens,
 * end-of-text id), then for each token one byte with its length and that many bytes. Version 1 has no end-of-text id.
 *
 * The file holds no merge rules, but in GPT-2's vocabulary ids follow the order of the merges, so it is enough to encode
 * with. A vocabulary of another origin decodes; it encodes as GPT-2's would.
 *
 * @module
 */
import { END_OF_TEXT, GPT2_VOCABULARY } from "../config.ts";
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
import { bpeTokenizer, type Tokenizer } from "./tokenizer.ts";

const MAGIC = 20240328;
/** A length is one byte. */
const LONGEST_TOKEN = 255;

/**
 * Reads a tokenizer file, version 1 (GPT-2's vocabulary only) or 2.
 *
 * @throws {FileError} it is missing, of another format, or damaged
 */
export function readTokenizerFile(path: string): Tokenizer {
  using file = openForReading(path);
  const header = readHeader(file, path, { magic: MAGIC, versions: [1, 2] });
  const [version, V] = [header[1]!, header[2]!];
  if (version === 1 && V !== GPT2_VOCABULARY) {
    throw new FileError(path, `is of version 1 with ${V} tokens, expected GPT-2's ${GPT2_VOCABULARY}`);
  }
  const eot = version === 1 ? END_OF_TEXT : header[3]!;
  if (V < 1) throw new FileError(path, `says it has ${V} tokens`);
  if (eot < 0 || eot >= V) {
    throw new FileError(path, `has end-of-text id ${eot}, expected one of its ids 0 to ${V - 1}`);
  }

  const bytes = new Uint8Array(file.statSync().size - HEADER_BYTES);
  readFully(file, bytes);
  const tokens: string[] = [];
  let at = 0;
  for (let id = 0; id < V; id++) {
    const length = bytes[at];
    if (length === undefined || at + 1 + length > bytes.length) {
      throw new FileError(path, `ends within token ${id} of ${V}`, {
        hint: "the file was cut short: make it again",
      });
    }
    if (length === 0) throw new FileError(path, `gives token ${id} no bytes`);
    tokens.push(String.fromCharCode(...bytes.subarray(at + 1, at + 1 + length)));
    at += 1 + length;
  }
  checkSize(file, path, HEADER_BYTES + at);
  return bpeTokenizer(tokens, eot);
}

/**
 * Writes a tokenizer as a file of version 2.
 *
 * @throws {FileError} a token is longer than 255 bytes, or the file cannot be written
 */
export async function writeTokenizerFile(path: string, tokenizer: Tokenizer): Promise<void> {
  const header = new Int32Array(HEADER_BYTES / 4);
  header.set([MAGIC, 2, tokenizer.V, tokenizer.eot]);
  const body: number[] = [];
  for (let id = 0; id < tokenizer.V; id++) {
    const token = tokenizer.decode([id]);
    if (token.length > LONGEST_TOKEN) {
      throw new FileError(
        path,
        `cannot hold token ${id}: it has ${token.length} bytes, the format's limit is ${LONGEST_TOKEN}`,
      );
    }
    body.push(token.length, ...token);
  }
  await writeFileAtomically(path, (file) => {
    writeFully(file, new Uint8Array(header.buffer));
    writeFully(file, Uint8Array.from(body));
  });
}
