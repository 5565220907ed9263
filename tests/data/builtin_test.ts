import { assert, assertEquals } from "@std/assert";
import { assetPath } from "../../src/io/assets.ts";
import { gpt2Tokenizer } from "../../src/io/tokenizer.ts";
import { TokenReader } from "../../src/io/tokens.ts";

/** The token file, or undefined where `deno task build` has not made it. */
function built(name: string): string | undefined {
  try {
    return assetPath(name);
  } catch {
    return undefined;
  }
}

const train = built("moby_dick_train.bin");
const val = built("moby_dick_val.bin");
const missing = train === undefined || val === undefined;

Deno.test({
  name: `builtin.ts makes token files of Moby Dick, no paragraph in both${
    missing ? " (skipped: not built; deno task build)" : ""
  }`,
  ignore: missing,
  async fn() {
    const { V, eot, decode } = await gpt2Tokenizer();
    const [trainIds, valIds] = [train!, val!].map((path) => {
      using reader = new TokenReader(path, V);
      const ids = new Int32Array(reader.length);
      reader.read(0, ids);
      return [...ids];
    }) as [number[], number[]];
    const share = valIds.length / (trainIds.length + valIds.length);
    assert(share > 0.08 && share < 0.12, `${share} of the tokens are for validation`);
    const ends = (ids: number[]): number => ids.filter((id) => id === eot).length;
    assertEquals(ends(trainIds), 136); // 135 chapters and the epilogue
    assert(ends(valIds) > 100); // chapters shorter than ten paragraphs may have none
    const text = (ids: number[]): string => new TextDecoder().decode(decode(ids));
    const [trainText, valText] = [text(trainIds), text(valIds)];
    assert(
      trainText.startsWith(
        "<|endoftext|>CHAPTER 1. Loomings.\n\nCall me Ishmael. Some years ago\u2014never mind",
      ),
    );
    assert(valText.endsWith("only found another orphan."));
    const paragraphs = (text: string): string[] =>
      text.split(/\n\n|<\|endoftext\|>/).map((part) => part.trim()).filter((part) => part.length > 80);
    const held = new Set(paragraphs(valText));
    assert(held.size > 200);
    assertEquals(paragraphs(trainText).filter((paragraph) => held.has(paragraph)), []);
  },
});
