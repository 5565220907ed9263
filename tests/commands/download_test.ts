import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { FileError, LlmtsError } from "../../src/errors.ts";
import { downloadModel, repositoryOf } from "../../src/hub.ts";
import { readHuggingFaceHeader, TOKENIZER_FILES } from "../../src/io/hugging_face.ts";
import { inFolder } from "../folder.ts";
import { cutShort, serveHub } from "../hub_server.ts";
import { handConfig, handModel, writeFolder, writeShards } from "../io/hugging_face_files.ts";
import { llmts } from "./run.ts";

const CONFIG = { maxT: 9, V: 65, Vp: 128, L: 2, NH: 3, C: 12 };
const REPOSITORY = "openai-community/gpt2";

type Files = Map<string, Uint8Array<ArrayBuffer>>;

/** The files of a folder as the hub serves those of a repository. */
function published(folder: string, repository = REPOSITORY): Files {
  return new Map(
    [...Deno.readDirSync(folder)].map(({ name }) => [
      `${repository}/resolve/main/${name}`,
      Deno.readFileSync(join(folder, name)),
    ]),
  );
}

/** A model in one file, or in `shards`. */
async function model(shards = 0, config = handConfig(CONFIG), repository = REPOSITORY): Promise<Files> {
  let files: Files = new Map();
  await inFolder((folder) => {
    if (shards === 0) writeFolder(folder, handModel(CONFIG), config);
    else writeShards(folder, handModel(CONFIG), config, shards);
    files = published(folder, repository);
  });
  return files;
}

function names(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

Deno.test("repositoryOf() knows the released sizes and takes OWNER/NAME", () => {
  assertEquals(
    ["gpt2", "gpt2-medium", "gpt2-large", "gpt2-xl", "distilbert/distilgpt2"].map(repositoryOf),
    [
      "openai-community/gpt2",
      "openai-community/gpt2-medium",
      "openai-community/gpt2-large",
      "openai-community/gpt2-xl",
      "distilbert/distilgpt2",
    ],
  );
  for (const name of ["gpt3", "d12", "", "a/b/c", "../x", "a/..", "https://x.org/y", "a/b?c"]) {
    let message = "";
    try {
      repositoryOf(name);
    } catch (error) {
      message = (error as Error).message;
    }
    assertEquals(
      message,
      `No model is called "${name}", expected gpt2, gpt2-medium, gpt2-large, gpt2-xl or OWNER/NAME`,
    );
  }
});

Deno.test("downloadModel() fetches config, tokenizer and weights, and nothing again", async () => {
  const merges: Files = new Map([[`${REPOSITORY}/resolve/main/merges.txt`, new TextEncoder().encode("a b")]]);
  const all = ["config.json", "merges.txt", "model.safetensors"];
  await serveHub(new Map([...await model(), ...merges]), ({ url, asked }) =>
    inFolder(async (folder) => {
      const files: [string, boolean][] = [];
      const options = {
        repository: REPOSITORY,
        folder: join(folder, "models", "gpt2"),
        baseUrl: `${url}/`,
        onFile: ({ path, downloaded }: { path: string; downloaded: boolean }): void => {
          files.push([path, downloaded]);
        },
      };
      await downloadModel(options);
      assertEquals(readHuggingFaceHeader(options.folder), { config: CONFIG, stored: "fp32" });
      assertEquals(names(options.folder), all);
      const before = asked.length;
      await downloadModel(options);
      assertEquals(
        asked.slice(before),
        ["config.json", ...TOKENIZER_FILES, "model.safetensors"].map((name) =>
          `HEAD /${REPOSITORY}/resolve/main/${name}`
        ),
      );
      const paths = all.map((name) => join(options.folder, name));
      assertEquals(files, [true, false].flatMap((downloaded) => paths.map((path) => [path, downloaded])));
    }));
});

Deno.test("downloadModel() fetches a model in several files", async () => {
  await serveHub(await model(3, undefined, "someone/my.gpt2"), ({ url }) =>
    inFolder(async (folder) => {
      await downloadModel({ repository: "someone/my.gpt2", folder, baseUrl: url });
      assertEquals(readHuggingFaceHeader(folder).config, CONFIG);
      assertEquals(names(folder).length, 5);
    }));
});

Deno.test("downloadModel() names what can't be had", async () => {
  const whole = await model(2);
  const without = (name: string): Files => new Map([...whole].filter(([path]) => !path.endsWith(name)));
  const cases: [files: Files, words: string][] = [
    [new Map(), `/${REPOSITORY}/resolve/main/config.json" cannot be downloaded: there is no such file`],
    [without("index.json"), `/resolve/main/": has no model.safetensors and no model.safetensors.index.json`],
    [
      without("2-of-00002.safetensors"),
      `model-00002-of-00002.safetensors" cannot be downloaded: there is no such`,
    ],
  ];
  for (const [files, words] of cases) {
    await serveHub(files, ({ url }) =>
      inFolder(async (folder) => {
        await assertRejects(
          () => downloadModel({ repository: REPOSITORY, folder, baseUrl: url }),
          LlmtsError,
          words,
        );
      }));
  }
});

Deno.test("downloadModel() refuses a model that llmts can't compute before it fetches the weights", async () => {
  await serveHub(
    await model(0, handConfig(CONFIG, { model_type: "llama" })),
    ({ url, asked }) =>
      inFolder(async (folder) => {
        await assertRejects(
          () => downloadModel({ repository: REPOSITORY, folder, baseUrl: url }),
          FileError,
          'model_type is "llama", expected "gpt2"',
        );
        assert(asked.every((line) => line.endsWith("config.json")), asked.join());
      }),
  );
});

Deno.test("llmts download fetches a model, goes on after a cut, and convert reads it", async () => {
  const files = await model();
  const size = files.get(`${REPOSITORY}/resolve/main/model.safetensors`)!.length;
  await serveHub(
    files,
    ({ url, asked }) =>
      inFolder(async (folder) => {
        const first = await llmts(folder, ["download", "gpt2", "--base-url", url]);
        const path = (name: string): string => join("models", "gpt2", name);
        assertEquals([first.code, first.stderr], [0, ""]);
        const lines = first.stdout.trimEnd().split("\n");
        assertEquals(lines.filter((line) => !line.includes("%")), [
          `${path("config.json")}: downloaded, git sha1 checked`,
          `${path("model.safetensors")}: downloaded, sha256 checked`,
          `5436 parameters: llmts sample --model ${join("models", "gpt2")}`,
        ]);
        assert(lines.includes(`model.safetensors: 100% of ${(size / 1024).toFixed(1)} kiB`), first.stdout);
        assert(asked.some((line) => line.endsWith("model.safetensors 5000-")), asked.join("\n"));

        const again = await llmts(folder, ["download", "gpt2"], { env: { HF_ENDPOINT: url } });
        assertStringIncludes(again.stdout, `${path("model.safetensors")}: there already, sha256 checked\n`);
        const converted = await llmts(folder, ["convert", "--from", "models/gpt2", "--to", "gpt2.bin"]);
        assertEquals([converted.code, converted.stderr], [0, ""]);
      }),
    ({ method, url }, content, earlier) =>
      method === "GET" && url.includes("/mirror/") && earlier === 0 ? cutShort(content, 5000) : undefined,
  );
});

Deno.test("llmts download refuses what is no model and no address", () =>
  inFolder(async (folder) => {
    const cases: [args: string[], words: string][] = [
      [["d12"], 'No model is called "d12", expected gpt2'],
      [["gpt2", "--base-url", "ftp://x"], '--base-url is "ftp://x", expected an http(s) URL'],
      [[], "llmts download needs MODEL"],
    ];
    for (const [args, words] of cases) {
      const { code, stderr } = await llmts(folder, ["download", ...args]);
      assertEquals(code, 2);
      assertStringIncludes(stderr, words);
    }
    const { code, stderr } = await llmts(folder, ["download", "gpt2"], { env: { HF_ENDPOINT: "nowhere" } });
    assertEquals([code, stderr], [2, 'llmts: HF_ENDPOINT is "nowhere", expected an http(s) URL\n']);
    assertEquals(names(folder), []);
  }));
