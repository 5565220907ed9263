import { assert, assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { join, resolve } from "@std/path";
import { tokenizeTinyShakespeare, writeTinyShakespeare } from "../../src/data/tinyshakespeare.ts";
import { FileError, LlmtsError } from "../../src/errors.ts";
import { gpt2Tokenizer } from "../../src/io/tokenizer.ts";
import { TokenReader } from "../../src/io/tokens.ts";
import { inFolder } from "../folder.ts";

const tokenizer = await gpt2Tokenizer();
const BYTES = 1_115_394;

/** Where the real text is, if it is on this machine. */
const REAL = [
  Deno.env.get("LLMTS_TINYSHAKESPEARE"),
  resolve(import.meta.dirname!, "../../../shared/data/tinyshakespeare.txt"),
].find((path) => path !== undefined && exists(path));

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isFile;
  } catch {
    return false;
  }
}

/** A text of tiny Shakespeare's size. */
function stage(): string {
  const line = "First Citizen:\nBefore we proceed any further, hear me speak.\n\n";
  return line.repeat(Math.ceil(BYTES / line.length)).slice(0, BYTES);
}

/** Serves one response on localhost while `run` runs. */
async function serving(
  response: () => Response | Promise<Response>,
  run: (url: string) => Promise<void>,
): Promise<void> {
  await using server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, response);
  await run(`http://127.0.0.1:${server.addr.port}/input.txt`);
}

Deno.test("tokenizeTinyShakespeare() puts end of text before each section, which keeps its blank line", () => {
  const words = "word ".repeat(33_000);
  const { val, train } = tokenizeTinyShakespeare(`A:\nhear\n\n${words}\n\nB:\n\n`, tokenizer);
  const expected = [
    ...[50256, ...tokenizer.encode("A:\nhear\n\n")],
    ...[50256, ...tokenizer.encode(`${words}\n\n`)],
    ...[50256, ...tokenizer.encode("B:\n\n")],
    50256, // what follows the last blank line: nothing
  ];
  assertEquals(val, expected.slice(0, 32_768));
  assertEquals(train, expected.slice(32_768));
});

Deno.test("tokenizeTinyShakespeare() refuses a text too short for validation and training", () => {
  assertThrows(() => tokenizeTinyShakespeare("To be\n\nor not to be", tokenizer), LlmtsError, "too short");
});

Deno.test({
  name: `writeTinyShakespeare() gives llm.c's 32,768 and 305,260 tokens${
    REAL === undefined ? " (skipped: no copy of the text; LLMTS_TINYSHAKESPEARE names one)" : ""
  }`,
  ignore: REAL === undefined,
  async fn() {
    await inFolder(async (folder) => {
      const corpus = await writeTinyShakespeare({ folder, tokenizer, input: REAL });
      assertEquals([corpus.valTokens, corpus.trainTokens], [32_768, 305_260]);
      assertEquals(corpus.val, join(folder, "tiny_shakespeare_val.bin"));
      for (const [path, tokens] of [[corpus.val, 32_768], [corpus.train, 305_260]] as const) {
        using reader = new TokenReader(path, tokenizer.V);
        assertEquals(reader.length, tokens);
        reader.read(0, new Int32Array(tokens));
      }
      // The two files together are the text, with an end of text before each section.
      const ids = [corpus.val, corpus.train].flatMap((path) => {
        using reader = new TokenReader(path, tokenizer.V);
        const part = new Int32Array(reader.length);
        reader.read(0, part);
        return [...part];
      });
      const text = new TextDecoder().decode(tokenizer.decode(ids.filter((id) => id !== tokenizer.eot)));
      assert(text === Deno.readTextFileSync(REAL!));
    });
  },
});

Deno.test("writeTinyShakespeare() downloads the text", async () => {
  const text = stage();
  await serving(() => new Response(text), (url) =>
    inFolder(async (folder) => {
      const { val, train } = tokenizeTinyShakespeare(text, tokenizer);
      const corpus = await writeTinyShakespeare({ folder, tokenizer, url });
      assertEquals([corpus.valTokens, corpus.trainTokens], [val.length, train.length]);
      using reader = new TokenReader(corpus.train, tokenizer.V);
      const ids = new Int32Array(train.length);
      reader.read(0, ids);
      assertEquals([...ids], train);
    }));
});

Deno.test("writeTinyShakespeare() says why a download failed, what to do, and leaves no file", async (t) => {
  const latin1 = new TextEncoder().encode(stage());
  latin1[1000] = 0xe9;
  const cases: [name: string, response: () => Response | Promise<Response>, message: string][] = [
    [
      "not found",
      () => new Response("no", { status: 404, statusText: "Not Found" }),
      "answered 404 Not Found",
    ],
    ["a page instead", () => new Response("<html>sign in</html>"), "has 20 bytes, expected the 1115394"],
    ["cut short", () => new Response(stage().slice(1)), "has 1115393 bytes, expected the 1115394"],
    ["not UTF-8", () => new Response(latin1), "is not UTF-8 text: invalid bytes at offset 1000"],
  ];
  for (const [name, response, message] of cases) {
    await t.step(name, () =>
      serving(response, (url) =>
        inFolder(async (folder) => {
          const error = await assertRejects(
            () => writeTinyShakespeare({ folder, tokenizer, url }),
            LlmtsError,
            message,
          );
          assertStringIncludes(error.message, `"${url}"`);
          assertEquals([...Deno.readDirSync(folder)], []);
        })));
  }
  await t.step("no answer in time", async () => {
    const { promise, resolve } = Promise.withResolvers<Response>();
    await serving(() => promise, async (url) => {
      const error = await assertRejects(
        () => writeTinyShakespeare({ folder: "unused", tokenizer, url, timeoutMs: 50 }),
        LlmtsError,
        `"${url}" cannot be downloaded: `,
      );
      assertEquals(error.hint, "download the text by other means and give it with --input FILE");
      resolve(new Response("late"));
    });
  });
});

Deno.test("writeTinyShakespeare() names an input that is missing", async () => {
  await assertRejects(
    () => writeTinyShakespeare({ folder: "unused", tokenizer, input: "no/such.txt" }),
    FileError,
    '"no/such.txt": cannot be opened: no such file or folder',
  );
});
