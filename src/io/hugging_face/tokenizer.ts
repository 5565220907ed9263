/**
 * Tokenizers as Hugging Face's files: writing GPT-2's as vocab.json, merges.txt and tokenizer_config.json, keeping another
 * model's own, and telling whether those are GPT-2's.
 *
 * @module
 */
import { join } from "@std/path";
import type { GPT2Config } from "../../config.ts";
import { FileError } from "../../errors.ts";
import { type Ranks, splitToken } from "../bpe.ts";
import { exists } from "../files.ts";
import { readText } from "../text.ts";
import type { Tokenizer } from "../tokenizer.ts";
import { toJson } from "./config.ts";

/** What transformers keeps a tokenizer in, and where in it the ids of tokens are. */
const FILES: readonly { name: string; ids?: (json: unknown) => unknown }[] = [
  { name: "tokenizer.json", ids: (json) => (json as { model?: { vocab?: unknown } } | null)?.model?.vocab },
  { name: "vocab.json", ids: (json) => json },
  { name: "merges.txt" },
  { name: "tokenizer_config.json" },
  { name: "special_tokens_map.json" },
  { name: "added_tokens.json" },
];

/** Names of the files that a tokenizer may be in. */
export const TOKENIZER_FILES: readonly string[] = FILES.map(({ name }) => name);

/** The tokenizer's files that a folder has, by name. @throws {FileError} one can't be read */
export function ownTokenizerFiles(folder: string): ReadonlyMap<string, string> {
  const names = TOKENIZER_FILES.filter((name) => exists(join(folder, name)));
  return new Map(names.map((name) => [name, readText(join(folder, name))]));
}

/**
 * Checks that the tokenizer in a model's folder, where there is one, has GPT-2's tokens: models in other languages have as
 * many, but others.
 *
 * @throws {FileError} it has others, or is damaged
 */
export function checkTokens(folder: string, tokenizer: Tokenizer): void {
  for (const { name, ids } of FILES) {
    const path = join(folder, name);
    if (ids === undefined || !exists(path)) continue;
    const found = tokenIds(path, ids);
    for (let id = 0; id < tokenizer.V; id++) {
      if (id === tokenizer.eot) continue;
      const token = printable(byteString(tokenizer.decode([id])));
      const other = found.get(token);
      if (other === id) continue;
      const given = other === undefined ? "no id" : `id ${other}`;
      throw new FileError(
        path,
        `gives token ${JSON.stringify(token)} ${given}, expected ${id}: text is in GPT-2's vocabulary`,
        { hint: "generate() of mod.ts gives the ids of tokens of any vocabulary" },
      );
    }
  }
}

function tokenIds(path: string, ids: (json: unknown) => unknown): ReadonlyMap<string, unknown> {
  let found: unknown;
  try {
    found = ids(JSON.parse(readText(path)));
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new FileError(path, `can't be read as JSON: ${cause.message}`, { cause });
  }
  return new Map(typeof found === "object" && found !== null ? Object.entries(found) : []);
}

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
        clean_up_tokenization_spaces: false, // untold, older transformers decode " ." as "."
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
