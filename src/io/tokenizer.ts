/**
 * Text to token ids and back: GPT-2's byte-pair encoding.
 *
 * One rule holds for all text, be it training data or a prompt: it is ordinary text. `<|endoftext|>` in it is encoded as
 * the thirteen characters it is; the end-of-text id is only ever put in by llmts itself, between documents. Nothing is
 * normalised: line ends, a byte order mark and control characters keep their bytes, so decoding gives the text back.
 * Lone surrogates, which UTF-8 cannot express, become U+FFFD.
 *
 * @module
 */
import { END_OF_TEXT } from "../config.ts";
import { LlmtsError } from "../errors.ts";
import { encodeText, fromByteString, toByteString } from "./bpe.ts";

/** Turns text into token ids and back. */
export interface Tokenizer {
  /** Number of tokens: ids are 0 … V - 1. */
  readonly V: number;
  /** The id that stands between documents. */
  readonly eot: number;
  /**
   * The ids of a text, all of it ordinary text.
   *
   * @throws {LlmtsError} the vocabulary lacks a byte of the text (GPT-2's lacks none), or it has some 67 million letters,
   * numbers, signs or spaces in a row
   */
  encode(text: string): number[];
  /**
   * The bytes that ids stand for: UTF-8, but a character may be cut at either end ({@linkcode StreamDecoder} waits for the
   * rest of it). The end-of-text id gives the bytes of `<|endoftext|>`.
   *
   * @throws {LlmtsError} an id is not in the vocabulary
   */
  decode(ids: Iterable<number>): Uint8Array<ArrayBuffer>;
}

/**
 * A tokenizer from the byte strings of its tokens, by id: tokens of a lower id are merged first.
 *
 * @param tokens byte strings (bpe.ts); where two are equal the lower id is used
 * @param eot its token takes no part in encoding
 */
export function bpeTokenizer(tokens: readonly string[], eot: number): Tokenizer {
  const ids = new Map<string, number>();
  let longest = 0;
  tokens.forEach((token, id) => {
    if (id === eot || ids.has(token)) return;
    ids.set(token, id);
    longest = Math.max(longest, token.length);
  });
  return {
    V: tokens.length,
    eot,
    encode(text: string): number[] {
      try {
        return encodeText(text, { ids, longest });
      } catch (error) {
        if (!(error instanceof RangeError)) throw error;
        throw new LlmtsError(`The text cannot be encoded: ${error.message}`, { cause: error });
      }
    },
    decode(wanted: Iterable<number>): Uint8Array<ArrayBuffer> {
      const parts: string[] = [];
      for (const id of wanted) {
        const token = tokens[id];
        if (token === undefined) {
          throw new LlmtsError(
            `Token id ${id} cannot be decoded: the vocabulary has ids 0 to ${tokens.length - 1}`,
          );
        }
        parts.push(token);
      }
      return fromByteString(parts.join(""));
    },
  };
}

let gpt2: Promise<Tokenizer> | undefined;

/** GPT-2's tokenizer: 50257 tokens, end of text 50256. Its vocabulary (r50k_base) is loaded at the first call. */
export function gpt2Tokenizer(): Promise<Tokenizer> {
  return gpt2 ??= loadGpt2();
}

async function loadGpt2(): Promise<Tokenizer> {
  const { default: vocabulary } = await import("gpt-tokenizer/bpeRanks/r50k_base");
  // Tokens that are not UTF-8 by themselves are arrays of bytes.
  const tokens = vocabulary.map((token) =>
    typeof token === "string" ? toByteString(token) : String.fromCharCode(...token)
  );
  tokens[END_OF_TEXT] = "<|endoftext|>";
  return bpeTokenizer(tokens, END_OF_TEXT);
}

/** Turns ids that come one by one into text. */
export interface StreamDecoder {
  /**
   * The text that became complete with this id; bytes of an unfinished character are kept for the next call, and bytes that
   * make up no character become U+FFFD.
   */
  push(id: number): string;
  /** What is left at the end: U+FFFD if a character is still unfinished, else nothing. */
  end(): string;
}

/** Decodes ids as they are drawn. A character split over several tokens comes whole, with the last of them. */
export function streamDecoder(tokenizer: Tokenizer): StreamDecoder {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true }); // the mark is text like any other
  return {
    push: (id) => decoder.decode(tokenizer.decode([id]), { stream: true }),
    end: () => decoder.decode(),
  };
}
