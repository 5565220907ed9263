/**
 * Any text into a pair of token files, `NAME_train.bin` and `NAME_val.bin`.
 *
 * The scheme: each document is preceded by the end-of-text id; documents follow one another in the order given; the last
 * tenth of all tokens (or another share) is for validation, the rest for training. Text streams through, so memory does
 * not grow with it.
 *
 * @module
 */
import { join } from "@std/path";
import { LlmtsError } from "../errors.ts";
import { cutBetweenPreTokens } from "../io/bpe.ts";
import { makeFolder, temporaryPath } from "../io/files.ts";
import { readTextPieces } from "../io/text.ts";
import type { Tokenizer } from "../io/tokenizer.ts";
import { TokenReader, writeTokenFile } from "../io/tokens.ts";

/** The share of tokens that {@linkcode writeCorpus} keeps for validation if not told otherwise. */
export const VALIDATION_SHARE = 0.1;

/** Tokens copied at a time. */
const CHUNK = 1 << 16;

/** Where the two files go, and what they are called. */
export interface CorpusPaths {
  readonly train: string;
  readonly val: string;
}

/** The two files of a corpus of this name in a folder. */
export function corpusPaths(folder: string, name: string): CorpusPaths {
  return { train: join(folder, `${name}_train.bin`), val: join(folder, `${name}_val.bin`) };
}

/** What {@linkcode writeCorpus} wrote. */
export interface Corpus extends CorpusPaths {
  /** Tokens for training. */
  readonly trainTokens: number;
  /** Tokens for validation. */
  readonly valTokens: number;
}

/** One document: its text, in pieces of any length. A document without text is left out. */
export type Document = Iterable<string>;

/**
 * Tokenises documents into `NAME_train.bin` and `NAME_val.bin`: both, or where it fails neither.
 *
 * @param pause is called after each piece of text and of the larger copy; what it throws ends the writing
 * @param share of the tokens for validation, above 0 and below 1
 * @throws {LlmtsError} there is too little text for either file to hold a token and the one that follows it
 * @throws {FileError} a document cannot be read or a file cannot be written
 */
export async function writeCorpus(
  documents: Iterable<Document>,
  { folder, name, tokenizer, share = VALIDATION_SHARE, pause = () => {} }: {
    folder: string;
    name: string;
    tokenizer: Tokenizer;
    share?: number;
    pause?: () => void | Promise<void>;
  },
): Promise<Corpus> {
  const paths = corpusPaths(folder, name);
  await makeFolder(folder);
  await removeLeftovers(folder, name);
  // How many tokens there are, and with it where validation starts, is known only at the end.
  const spool = temporaryPath(join(folder, name));
  try {
    const total = await writeTokenFile(spool, tokenizer.V, async (write) => {
      for (const document of documents) {
        let empty = true;
        for (const piece of cutBetweenPreTokens(document)) {
          if (piece === "") continue;
          if (empty) write([tokenizer.eot]);
          write(tokenizer.encode(piece));
          empty = false;
          await pause();
        }
      }
    });
    const valTokens = Math.floor(total * share);
    const trainTokens = total - valTokens;
    if (total === 0) throw new LlmtsError(`There is no text to make "${paths.train}" of`);
    if (valTokens < 2 || trainTokens < 2) {
      const better = valTokens < trainTokens ? "larger" : "smaller";
      throw new LlmtsError(
        `The text is too short: of its ${total} tokens ${trainTokens} would be for training, ${valTokens} for validation`,
        { hint: `give more text${total < 4 ? "" : `, or a ${better} --val-share`}` }, // no share parts three in two and two
      );
    }
    using reader = new TokenReader(spool, tokenizer.V);
    await copyTokens(reader, [0, trainTokens], paths.train, tokenizer.V, pause);
    await copyTokens(reader, [trainTokens, total], paths.val, tokenizer.V, () => {}); // not one without the other
    return { ...paths, trainTokens, valTokens };
  } finally {
    await Deno.remove(spool).catch(() => {}); // it may not have come to be
  }
}

/** Clears away the temporary files of a run that was killed. */
async function removeLeftovers(folder: string, name: string): Promise<void> {
  // All tokens have one, and while they are written a temporary file of that.
  const [id, text] = ["\\.[0-9a-f]{8}\\.tmp", RegExp.escape(name)];
  const temporary = new RegExp(`^\\.(${text}|\\.${text}${id}|${text}_(train|val)\\.bin)${id}$`);
  for await (const { name: file, isFile } of Deno.readDir(folder)) {
    if (isFile && temporary.test(file)) await Deno.remove(join(folder, file));
  }
}

async function copyTokens(
  reader: TokenReader,
  [from, to]: readonly [number, number],
  path: string,
  V: number,
  pause: () => void | Promise<void>,
): Promise<void> {
  await writeTokenFile(path, V, async (write) => {
    const ids = new Int32Array(CHUNK);
    for (let position = from; position < to; position += CHUNK) {
      const part = ids.subarray(0, Math.min(CHUNK, to - position));
      reader.read(position, part);
      write(part);
      await pause();
    }
  });
}

/**
 * Text files as documents, each opened when its turn comes.
 *
 * @param hint for the error if one cannot be opened
 */
export function* fileDocuments(paths: readonly string[], hint?: string): Generator<Document> {
  for (const path of paths) yield readTextPieces(path, hint);
}
