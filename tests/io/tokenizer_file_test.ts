import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { readTokenizerFile, writeTokenizerFile } from "../../mod.ts";
import { FileError, LlmtsError } from "../../src/errors.ts";
import { bpeTokenizer, gpt2Tokenizer } from "../../src/io/tokenizer.ts";
import { inFolder } from "../folder.ts";

/** The bytes of a tokenizer file: header fields, then the tokens. */
function fileOf(fields: number[], tokens: string[]): Uint8Array {
  const header = new Int32Array(256);
  header.set(fields);
  const body = tokens.flatMap((token) => [token.length, ...new TextEncoder().encode(token)]);
  return new Uint8Array([...new Uint8Array(header.buffer), ...body]);
}

const TOKENS = ["a", "b", "ab", "<|endoftext|>"];

Deno.test("readTokenizerFile() reads what writeTokenizerFile() wrote, and encodes with it", async () => {
  await inFolder(async (folder) => {
    const gpt2 = await gpt2Tokenizer();
    const path = join(folder, "gpt2_tokenizer.bin");
    await writeTokenizerFile(path, gpt2);
    const read = readTokenizerFile(path);
    assertEquals([read.V, read.eot], [gpt2.V, gpt2.eot]);
    for (let id = 0; id < gpt2.V; id++) assertEquals(read.decode([id]), gpt2.decode([id]));
    const text = "I don't know,\n\nna\u00efve \u{1F44D} <|endoftext|>";
    assertEquals(read.encode(text), gpt2.encode(text));

    // Version 1 has the same tokens, and no end-of-text id in its header.
    const bytes = Deno.readFileSync(path);
    new Int32Array(bytes.buffer, 0, 256).set([1, gpt2.V, 0], 1);
    Deno.writeFileSync(path, bytes);
    assertEquals(readTokenizerFile(path).eot, 50256);
  });
});

Deno.test("readTokenizerFile() reads a small vocabulary, which may be unable to encode", async () => {
  await inFolder((folder) => {
    const path = join(folder, "small.bin");
    Deno.writeFileSync(path, fileOf([20240328, 2, 4, 3], TOKENS));
    const small = readTokenizerFile(path);
    assertEquals(new TextDecoder().decode(small.decode([2, 1, 3])), "abb<|endoftext|>");
    assertEquals(small.encode("aab"), [0, 2]);
    assertThrows(() => small.encode("c"), LlmtsError, "no token for byte 99");
  });
});

Deno.test("readTokenizerFile() says what is wrong with a file", async (t) => {
  const whole = fileOf([20240328, 2, 4, 3], TOKENS);
  const faults: [name: string, bytes: Uint8Array, message: string][] = [
    [
      "another magic",
      fileOf([20240520, 1, 4], TOKENS),
      "is a token file (magic 20240520), expected a tokenizer file",
    ],
    ["another version", fileOf([20240328, 3, 4, 3], TOKENS), "of version 3, expected a tokenizer file"],
    [
      "version 1 of another size",
      fileOf([20240328, 1, 4], TOKENS),
      "is of version 1 with 4 tokens, expected GPT-2's",
    ],
    ["no tokens", fileOf([20240328, 2, 0, 0], []), "says it has 0 tokens"],
    ["a negative count", fileOf([20240328, 2, -4, 0], []), "says it has -4 tokens"],
    ["end of text beyond the tokens", fileOf([20240328, 2, 4, 4], TOKENS), "has end-of-text id 4"],
    ["end of text below 0", fileOf([20240328, 2, 4, -1], TOKENS), "has end-of-text id -1"],
    ["cut within a token", whole.slice(0, -1), "ends within token 3 of 4"],
    ["cut before a token", whole.slice(0, -14), "ends within token 3 of 4"],
    ["cut in the header", whole.slice(0, 1000), "ends after 1000 bytes of its header"],
    ["bytes left over", new Uint8Array([...whole, 0]), "1 bytes are left over"],
    ["a token without bytes", fileOf([20240328, 2, 3, 2], ["a", "", "c"]), "gives token 1 no bytes"],
    [
      "an empty file",
      new Uint8Array(),
      "is empty, expected a tokenizer file (magic 20240328, version 1 or 2)",
    ],
  ];
  for (const [name, bytes, message] of faults) {
    await t.step(name, () =>
      inFolder((folder) => {
        const path = join(folder, "tokenizer.bin");
        Deno.writeFileSync(path, bytes);
        assertThrows(() => readTokenizerFile(path), FileError, message);
      }));
  }
});

Deno.test("writeTokenizerFile() refuses a token of more than 255 bytes and leaves no file", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "long.bin");
    const tokenizer = bpeTokenizer(["a", "a".repeat(256), "<|endoftext|>"], 2);
    await assertRejects(
      () => writeTokenizerFile(path, tokenizer),
      FileError,
      "cannot hold token 1: it has 256 bytes",
    );
    assertEquals([...Deno.readDirSync(folder)], []);
    await writeTokenizerFile(path, bpeTokenizer(["a", "a".repeat(255), "<|endoftext|>"], 2));
    assertEquals(readTokenizerFile(path).decode([1]).length, 255);
  });
});
