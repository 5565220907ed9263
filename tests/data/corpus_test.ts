import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { corpusPaths, fileDocuments, writeCorpus } from "../../src/data/corpus.ts";
import { FileError, LlmtsError } from "../../src/errors.ts";
import { gpt2Tokenizer } from "../../src/io/tokenizer.ts";
import { TokenReader } from "../../src/io/tokens.ts";
import { inFolder } from "../folder.ts";

const tokenizer = await gpt2Tokenizer();
const { V, eot } = tokenizer;

function tokensOf(path: string): number[] {
  using reader = new TokenReader(path, V);
  const ids = new Int32Array(reader.length);
  reader.read(0, ids);
  return [...ids];
}

Deno.test("writeCorpus() puts end of text before each document and the last tenth into validation", async () => {
  await inFolder(async (folder) => {
    const out = join(folder, "made", "here");
    const documents = ["one two three four five six seven", "eight\r\nnine <|endoftext|> ten"];
    const corpus = await writeCorpus(documents.map((text) => [text]), {
      folder: out,
      name: "tiny",
      tokenizer,
    });
    const all = documents.flatMap((text) => [eot, ...tokenizer.encode(text)]);
    const trainTokens = all.length - Math.floor(all.length / 10);
    assertEquals(corpus, { ...corpusPaths(out, "tiny"), trainTokens, valTokens: all.length - trainTokens });
    assertEquals(tokensOf(corpus.train), all.slice(0, trainTokens));
    assertEquals(tokensOf(corpus.val), all.slice(trainTokens));
    assertEquals([...Deno.readDirSync(out)].map(({ name }) => name).sort(), [
      "tiny_train.bin",
      "tiny_val.bin",
    ]);

    const half = await writeCorpus([[documents[0]!]], { folder: out, name: "tiny", tokenizer, share: 0.5 });
    assertEquals([half.trainTokens, half.valTokens], [4, 4]);
  });
});

Deno.test("writeCorpus() gives a large file the ids of its whole text", async () => {
  await inFolder(async (folder) => {
    // Lines that end everywhere in a piece of 1 MiB, with characters of every length.
    const text = Array.from(
      { length: 25_000 },
      (_, i) => `line ${i}: it's  na\u00efve \u4f60\u597d \u{1F44D}\t${i * i}\n`,
    ).join("");
    const path = join(folder, "large.txt");
    Deno.writeTextFileSync(path, text);
    const corpus = await writeCorpus(fileDocuments([path]), { folder, name: "large", tokenizer });
    const ids = [...tokensOf(corpus.train), ...tokensOf(corpus.val)];
    assertEquals(ids.length, corpus.trainTokens + corpus.valTokens);
    const expected = [eot, ...tokenizer.encode(text)];
    assertEquals(ids.findIndex((id, i) => id !== expected[i]), -1);
    assertEquals(ids.length, expected.length);
  });
});

Deno.test("writeCorpus() leaves documents without text out", async () => {
  await inFolder(async (folder) => {
    const corpus = await writeCorpus([[], ["a b c d e f"], [""], ["", "g h i j k l m n o p q r"]], {
      folder,
      name: "gaps",
      tokenizer,
    });
    const ids = [...tokensOf(corpus.train), ...tokensOf(corpus.val)];
    assertEquals(ids.filter((id) => id === eot).length, 2);
  });
});

Deno.test("writeCorpus() refuses too little text and leaves no file", async () => {
  await inFolder(async (folder) => {
    const write = (documents: string[][], share: number): Promise<unknown> =>
      writeCorpus(documents, { folder, name: "none", tokenizer, share });
    await assertRejects(() => write([], 0.5), LlmtsError, "There is no text to make");
    await assertRejects(() => write([[""], []], 0.5), LlmtsError, "There is no text to make");
    const short = await assertRejects(
      () => write([["a b"]], 0.5),
      LlmtsError,
      "The text is too short: of its 3 tokens 2 would be for training, 1 for validation",
    );
    assertEquals(short.hint, "give more text"); // three tokens are too few for any share
    const hints = [[0.1, "larger"], [0.9, "smaller"]] as const;
    for (const [share, better] of hints) {
      const { hint } = await assertRejects(() => write([["a b c"]], share), LlmtsError);
      assertEquals(hint, `give more text, or a ${better} --val-share`);
    }
    assertEquals([...Deno.readDirSync(folder)], []);
    await write([["a b c"]], 0.5);
  });
});

Deno.test("writeCorpus() clears away what a killed run of the same name left, and nothing else", async () => {
  await inFolder(async (folder) => {
    const left = [".a.b.0123abcd.tmp", "..a.b.0123abcd.tmp.4567cdef.tmp", ".a.b_train.bin.0123abcd.tmp"];
    const others = [
      ".a-b.0123abcd.tmp",
      ".a.b.txt.0123abcd.tmp",
      ".c_val.bin.0123abcd.tmp",
      "a.b.0123abcd.tmp",
    ];
    for (const name of [...left, ...others]) Deno.writeTextFileSync(join(folder, name), "");
    await writeCorpus([["a b c"]], { folder, name: "a.b", tokenizer, share: 0.5 });
    assertEquals(
      [...Deno.readDirSync(folder)].map(({ name }) => name).sort(),
      [...others, "a.b_train.bin", "a.b_val.bin"].sort(),
    );
  });
});

Deno.test("writeCorpus() leaves nothing where a pause ends it", async () => {
  await inFolder(async (folder) => {
    const documents = ["a b c d", "e f g h"].map((text) => [text]);
    for (let last = 1; last <= 3; last++) { // after each document, and after the training tokens
      let pauses = 0;
      const pause = (): void => {
        if (++pauses === last) throw new Error("enough");
      };
      await assertRejects(
        () => writeCorpus(documents, { folder, name: "none", tokenizer, share: 0.5, pause }),
        Error,
        "enough",
      );
      assertEquals([...Deno.readDirSync(folder)], []);
    }
  });
});

Deno.test("writeCorpus() names the file that cannot be read and leaves what was there", async () => {
  await inFolder(async (folder) => {
    const good = join(folder, "good.txt");
    const bad = join(folder, "bad.txt");
    Deno.writeTextFileSync(good, "some words that are fine ".repeat(20));
    Deno.writeFileSync(bad, Uint8Array.of(0x61, 0x62, 0xfe));
    const options = { folder: join(folder, "out"), name: "text", tokenizer };
    const corpus = await writeCorpus(fileDocuments([good]), options);
    const before = tokensOf(corpus.train);
    const message = `"${bad}": is not UTF-8 text: invalid bytes at offset 2`;
    await assertRejects(() => writeCorpus(fileDocuments([good, good, bad]), options), FileError, message);
    const missing = join(folder, "missing.txt");
    await assertRejects(
      () => writeCorpus(fileDocuments([missing]), options),
      FileError,
      `"${missing}": cannot be opened`,
    );
    assertEquals(tokensOf(corpus.train), before);
    assertEquals([...Deno.readDirSync(options.folder)].length, 2);
  });
});
