/**
 * Tiny Shakespeare (karpathy/char-rnn), tokenised as llm.c does it: 32,768 tokens for validation, 305,260 for training.
 *
 * @module
 */
import { FileError, LlmtsError } from "../errors.ts";
import { makeFolder } from "../io/files.ts";
import { downloadError, requireOk } from "../io/http.ts";
import { decodeUtf8, readTextPieces } from "../io/text.ts";
import type { Tokenizer } from "../io/tokenizer.ts";
import { writeTokenFile } from "../io/tokens.ts";
import { type Corpus, corpusPaths } from "./corpus.ts";

/** What its files are called: `tiny_shakespeare_train.bin` and `tiny_shakespeare_val.bin`. */
export const TINY_SHAKESPEARE = "tiny_shakespeare";

const SOURCE = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt";
const BYTES = 1_115_394;
const VALIDATION_TOKENS = 32_768;
const TIMEOUT_MS = 30_000;

/**
 * Token ids of the text: it is split at blank lines ("\n\n"), and each section, with its blank line, is preceded by the
 * end-of-text id. The first 32,768 tokens are for validation, the others for training.
 *
 * @throws {LlmtsError} the text has too few tokens for that
 */
export function tokenizeTinyShakespeare(
  text: string,
  tokenizer: Tokenizer,
): { train: number[]; val: number[] } {
  const ids: number[] = [];
  const sections = text.split("\n\n");
  sections.forEach((section, i) => {
    ids.push(tokenizer.eot);
    for (const id of tokenizer.encode(i < sections.length - 1 ? section + "\n\n" : section)) ids.push(id);
  });
  if (ids.length < VALIDATION_TOKENS + 2) {
    throw new LlmtsError(
      `The text is too short to be tiny Shakespeare: ${ids.length} tokens, of which ${VALIDATION_TOKENS} are for validation`,
    );
  }
  return { train: ids.slice(VALIDATION_TOKENS), val: ids.slice(0, VALIDATION_TOKENS) };
}

/**
 * Writes tiny Shakespeare's two token files.
 *
 * @param input a file that holds the text; undefined to download it
 * @param url where to download it from
 * @throws {FileError | LlmtsError} the text cannot be had or is not what it should be, or a file cannot be written
 */
export async function writeTinyShakespeare(
  { folder, tokenizer, input, url = SOURCE, timeoutMs = TIMEOUT_MS }: {
    folder: string;
    tokenizer: Tokenizer;
    input?: string | undefined;
    url?: string;
    timeoutMs?: number;
  },
): Promise<Corpus> {
  const text = input === undefined ? await download(url, timeoutMs) : [...readTextPieces(input)].join("");
  const { train, val } = tokenizeTinyShakespeare(text, tokenizer);
  const paths = corpusPaths(folder, TINY_SHAKESPEARE);
  await makeFolder(folder);
  const trainTokens = await writeTokenFile(paths.train, tokenizer.V, (write) => write(train));
  const valTokens = await writeTokenFile(paths.val, tokenizer.V, (write) => write(val));
  return { ...paths, trainTokens, valTokens };
}

async function download(url: string, timeoutMs: number): Promise<string> {
  const hint = "download the text by other means and give it with --input FILE";
  let bytes: Uint8Array;
  try {
    bytes = await (await requireOk(await fetch(url, { signal: AbortSignal.timeout(timeoutMs) }))).bytes();
  } catch (error) {
    throw downloadError(url, error, hint);
  }
  if (bytes.length !== BYTES) {
    throw new FileError(url, `has ${bytes.length} bytes, expected the ${BYTES} of tiny Shakespeare`, {
      hint,
    });
  }
  return decodeUtf8(bytes, url);
}
