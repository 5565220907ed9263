/**
 * GPT-2's tokenizer as Hugging Face's files: vocab.json, merges.txt and tokenizer_config.json.
 *
 * @module
 */
import type { GPT2Config } from "../../config.ts";
import { type Ranks, splitToken } from "../bpe.ts";
import type { Tokenizer } from "../tokenizer.ts";
import { toJson } from "./config.ts";

/** The tokenizer's files by name. */
export function tokenizerFiles(tokenizer: Tokenizer, { maxT }: GPT2Config): ReadonlyMap<string, string> {
  const tokens = Array.from({ length: tokenizer.V }, (_, id) => byteString(tokenizer.decode([id])));
  const endOfText = tokens[tokenizer.eot]!;
  return new Map([
    ["vocab.json", vocabulary(tokens, tokenizer.eot)],
    ["merges.txt", merges(tokens, tokenizer.eot)],
    [
      "tokenizer_config.json",
      toJson({
        tokenizer_class: "GPT2Tokenizer",
        model_max_length: maxT,
        add_prefix_space: false,
        bos_token: endOfText,
        eos_token: endOfText,
        unk_token: endOfText,
      }),
    ],
  ]);
}

/** Ids by token, in the order of ids: a plain object would put a token such as "7" first. */
function vocabulary(tokens: readonly string[], eot: number): string {
  const entries = tokens.map((token, id) => `${asciiJson(id === eot ? token : printable(token))}: ${id}`);
  return `{${entries.join(", ")}}`;
}

/** JSON with all but ASCII escaped, as Python writes it. */
function asciiJson(text: string): string {
  return JSON.stringify(text).replaceAll(
    /[^\x20-\x7e]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/**
 * Which two tokens each token is merged from. In GPT-2's vocabulary ids follow the order of the merges, so the two are
 * what encoding makes of the token's bytes with the tokens before it.
 */
function merges(tokens: readonly string[], eot: number): string {
  const ids = new Map<string, number>();
  const lines = ["#version: 0.2"];
  let longest = 0;
  tokens.forEach((token, id) => {
    if (id === eot) return;
    if (token.length > 1) {
      const ranks: Ranks = { ids, longest };
      lines.push(splitToken(token, ranks).map((part) => printable(tokens[part]!)).join(" "));
    }
    ids.set(token, id);
    longest = Math.max(longest, token.length);
  });
  return lines.join("\n") + "\n";
}

function byteString(bytes: Uint8Array): string {
  return String.fromCharCode(...bytes);
}

/** A byte string in the printable characters that GPT-2's files write bytes with. */
function printable(bytes: string): string {
  return bytes.replaceAll(/[^]/g, (byte) => ALPHABET[byte.charCodeAt(0)]!);
}

/** By byte: the printable ones of Latin-1 stand for themselves, the others, in order, are the characters from 256 on. */
const ALPHABET: readonly string[] = (() => {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const shown = (byte > 0x20 && byte < 0x7f) || (byte > 0xa0 && byte !== 0xad);
    return String.fromCharCode(shown ? byte : next++);
  });
})();
