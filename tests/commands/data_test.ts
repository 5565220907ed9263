import { assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { tokenizeTinyShakespeare } from "../../src/data/tinyshakespeare.ts";
import { gpt2Tokenizer } from "../../src/io/tokenizer.ts";
import { exists } from "../../src/io/files.ts";
import { TokenReader } from "../../src/io/tokens.ts";
import { inFolder } from "../folder.ts";
import { llmts, type Result, start } from "./run.ts";

const tokenizer = await gpt2Tokenizer();

function lengthOf(path: string): number {
  using reader = new TokenReader(path, tokenizer.V);
  return reader.length;
}

function files(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

Deno.test("llmts data writes the token files of text files", async () => {
  await inFolder(async (folder) => {
    const book = "Call me Ishmael. ".repeat(50);
    Deno.writeTextFileSync(join(folder, "my book.v2.txt"), book);
    Deno.writeTextFileSync(join(folder, "other.txt"), "It was a dark night.");
    const tokens = 1 + tokenizer.encode(book).length;

    const one = await llmts(folder, ["data", "my book.v2.txt"]);
    const val = Math.floor(tokens / 10);
    assertEquals(one, {
      code: 0,
      stdout: `${tokens - val} tokens for training in ${join("data", "my book.v2_train.bin")}\n` +
        `${val} tokens for validation in ${join("data", "my book.v2_val.bin")}\n`,
      stderr: "",
    });
    assertEquals(lengthOf(join(folder, "data", "my book.v2_train.bin")), tokens - val);

    const two = ["my book.v2.txt", "other.txt"];
    assertEquals(
      (await llmts(folder, ["data", ...two, "--out", "out", "--val-share", "0.5"])).code,
      0,
    );
    assertEquals(files(join(folder, "out")), ["text_train.bin", "text_val.bin"]);
    const all = tokens + 1 + tokenizer.encode("It was a dark night.").length;
    assertEquals(lengthOf(join(folder, "out", "text_val.bin")), Math.floor(all / 2));

    assertEquals(
      (await llmts(folder, [...two, "--name", "both", "--out", "dev"], { script: "dev/data/text.ts" })).code,
      0,
    );
    assertEquals(files(join(folder, "dev")), ["both_train.bin", "both_val.bin"]);
  });
});

Deno.test({
  name: "llmts data takes text from a pipe",
  ignore: Deno.build.os === "windows",
  fn: () =>
    inFolder(async (folder) => {
      const input = "Call me Ishmael. ".repeat(50);
      const { code, stderr } = await llmts(folder, ["data", "/dev/stdin", "--name", "book"], { input });
      assertEquals([code, stderr], [0, ""]);
      const [train, val] = ["train", "val"].map((part) => lengthOf(join(folder, "data", `book_${part}.bin`)));
      assertEquals(train! + val!, 1 + tokenizer.encode(input).length);
    }),
});

Deno.test("llmts data tinyshakespeare takes the text from --input", async () => {
  await inFolder(async (folder) => {
    const text = "First Citizen:\nSpeak, speak.\n\n".repeat(6000);
    Deno.writeTextFileSync(join(folder, "input.txt"), text);
    const { train, val } = tokenizeTinyShakespeare(text, tokenizer);
    for (
      const [script, args] of [
        ["cli.ts", ["data", "tinyshakespeare", "--input", "input.txt", "--out", "cli"]],
        ["dev/data/tinyshakespeare.ts", ["--input", "input.txt", "--out", "dev"]],
      ] as const
    ) {
      const { code, stderr } = await llmts(folder, args, { script });
      assertEquals([code, stderr], [0, ""]);
      const out = join(folder, args.at(-1)!);
      assertEquals(lengthOf(join(out, "tiny_shakespeare_train.bin")), train.length);
      assertEquals(lengthOf(join(out, "tiny_shakespeare_val.bin")), val.length);
    }
  });
});

Deno.test("llmts data writes over token files only with --force", async () => {
  await inFolder(async (folder) => {
    const [train, val] = ["book_train.bin", "book_val.bin"].map((name) => join("data", name)) as [
      string,
      string,
    ];
    const content = (path: string): Uint8Array => Deno.readFileSync(join(folder, path));
    const write = (): Promise<Result> => llmts(folder, ["data", "book.txt"]);
    Deno.writeTextFileSync(join(folder, "book.txt"), "Call me Ishmael. ".repeat(50));
    assertEquals((await write()).code, 0);
    const before = [content(train), content(val)];

    Deno.writeTextFileSync(join(folder, "book.txt"), "It was a dark night. ".repeat(50));
    const refused = (path: string): Result => ({
      code: 1,
      stdout: "",
      stderr: `llmts: "${path}" is there already\nhint: --force writes over it\n`,
    });
    assertEquals(await write(), refused(train));
    assertEquals([content(train), content(val)], before);
    Deno.removeSync(join(folder, train));
    assertEquals(await write(), refused(val));
    assertEquals((await llmts(folder, ["data", "book.txt", "--force"])).code, 0);
    assertNotEquals(content(val), before[1]);
  });
});

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  const ignore = Deno.build.os === "windows";
  Deno.test({ name: `llmts data leaves no file at ${signal}`, ignore }, async () => {
    await inFolder(async (folder) => {
      const text = "Call me Ishmael, it was a dark night. ".repeat(30_000);
      const names = Array.from({ length: 40 }, (_, i) => `${i}.txt`); // some seconds' work
      for (const name of names) Deno.writeTextFileSync(join(folder, name), text);
      const child = start(folder, ["data", ...names]);
      const data = join(folder, "data");
      while (!(exists(data) && files(data).length > 0)) {
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      child.kill(signal);
      const { code, stdout, stderr } = await child.output();
      const words = [stdout, stderr].map((bytes) => new TextDecoder().decode(bytes));
      assertEquals([code, ...words], [130, "", "interrupted: no token file is written\n"]);
      assertEquals(files(data), []);
    });
  });
}

Deno.test("llmts data takes a data set that is there for done, without a network", async () => {
  await inFolder(async (folder) => {
    Deno.writeTextFileSync(join(folder, "input.txt"), "First Citizen:\nSpeak, speak.\n\n".repeat(6000));
    const args = ["data", "tinyshakespeare"];
    const made = await llmts(folder, [...args, "--input", "input.txt"]);
    assertEquals(made.code, 0);
    const options = { permissions: ["-A", "--deny-net"] };
    const notice = "tinyshakespeare is there already, --force downloads it again\n";
    assertEquals(await llmts(folder, args, options), { ...made, stderr: notice });
    const again = await llmts(folder, [...args, "--input", "input.txt"]);
    assertEquals([again.code, again.stdout], [1, ""]);
    assertStringIncludes(again.stderr, 'tiny_shakespeare_train.bin" is there already\nhint: --force');
    assertEquals(await llmts(folder, [...args, "--input", "input.txt", "--force"]), made);
    assertStringIncludes(
      (await llmts(folder, [...args, "--force"], options)).stderr,
      "downloading tinyshakespeare",
    );
  });
});

Deno.test("llmts data says what is wrong, with exit code 2 for the command line and 1 for files", async (t) => {
  const cases: [args: string[], code: number, stderr: string][] = [
    [[], 2, "llmts: llmts data needs NAME|FILE"],
    [
      ["missing.txt"],
      1,
      'llmts: "missing.txt": cannot be opened: no such file or folder\nhint: data sets: tiny',
    ],
    [["."], 1, 'llmts: ".": is a folder, expected a file'],
    [["empty.txt"], 1, "llmts: There is no text to make"],
    [["latin1.txt"], 1, 'llmts: "latin1.txt": is not UTF-8 text: invalid bytes at offset 3'],
    [["text.txt", "--input", "x"], 2, 'llmts: --input is for a data set, "text.txt" is none'],
    [["text.txt", "--name", "a/b"], 2, 'llmts: --name is "a/b", expected a name without folders'],
    [["text.txt", "--val-share", "0"], 2, 'llmts: --val-share is "0", expected a number above 0'],
    [
      ["tinyshakespeare", "text.txt"],
      2,
      'llmts: "tinyshakespeare" is a data set, expected no other argument',
    ],
    [["tinyshakespeare", "--name", "x"], 2, "llmts: --name is for text files"],
    [["tinyshakespeare", "--val-share", "0.2"], 2, "llmts: --val-share is for text files"],
    [["tinyshakespeare", "--input", "text.txt"], 1, "llmts: The text is too short to be tiny Shakespeare"],
  ];
  await inFolder(async (folder) => {
    Deno.writeTextFileSync(join(folder, "empty.txt"), "");
    Deno.writeTextFileSync(join(folder, "text.txt"), "some words");
    Deno.writeFileSync(join(folder, "latin1.txt"), Uint8Array.of(0x63, 0x61, 0x66, 0xe9, 0x20, 0x61));
    for (const [args, code, message] of cases) {
      await t.step(`llmts data ${args.join(" ")}`, async () => {
        const result = await llmts(folder, ["data", ...args]);
        assertEquals([result.code, result.stdout], [code, ""]);
        assertStringIncludes(result.stderr, message);
      });
    }
  });
});
