/**
 * `llmts download`: a GPT-2 from the Hugging Face hub.
 *
 * @module
 */
import { basename, join } from "@std/path";
import { UsageError } from "../src/errors.ts";
import { downloadModel, HUB, repositoryOf } from "../src/hub.ts";
import { modelHeader } from "../src/load.ts";
import { parameterCount } from "../src/parameters.ts";
import { defineCommand } from "./command.ts";
import { formatBytes } from "./format.ts";
import { openLog } from "./output.ts";

/** Folder for downloaded models. */
const MODELS_FOLDER = "models";

/** See the module. */
export const command = defineCommand({
  positionals: {
    name: "MODEL",
    description: "gpt2, gpt2-medium, gpt2-large, gpt2-xl, or OWNER/NAME of a GPT-2 on the hub",
    min: 1,
    max: 1,
  },
  flags: {
    out: {
      type: "path",
      value: "DIR",
      absent: `${MODELS_FOLDER}/NAME`,
      description: "folder for the model",
      group: "Output",
    },
    baseUrl: {
      type: "string",
      value: "URL",
      absent: `HF_ENDPOINT, else ${HUB}`,
      description: "a mirror of the hub",
      group: "Network",
    },
  },
  details: [
    "Downloads config.json, the tokenizer's files and model.safetensors (or its parts), and checks size and hash of each. " +
    "A download that was cut off goes on when the same command runs again; files that are there and right are kept.",
  ],
  examples: [
    "llmts download gpt2 && llmts sample --model models/gpt2",
    "llmts download gpt2-xl --out xl --base-url https://hub.example.org",
  ],
  async run({ out, baseUrl }, [name]): Promise<number> {
    const repository = repositoryOf(name!);
    const folder = out ?? join(MODELS_FOLDER, basename(repository));
    const log = openLog();
    let shown = "";
    try {
      await downloadModel({
        repository,
        folder,
        baseUrl: checkedUrl(baseUrl),
        onProgress(file, done, size): void {
          const text = size === undefined
            ? `${file}: ${formatBytes(done)}`
            : `${file}: ${Math.floor(100 * done / size)}% of ${formatBytes(size)}`;
          if (text === shown) return; // at most a line for each percent
          shown = text;
          log.progress(text);
        },
        onFile({ path, size, digest, downloaded }): void {
          const checked = digest?.algorithm ?? (size === undefined ? "nothing" : "only the size");
          log.line(`${path}: ${downloaded ? "downloaded" : "there already"}, ${checked} checked`);
        },
      });
    } finally {
      log.end();
    }
    log.line(`${parameterCount(modelHeader(folder).config)} parameters: llmts sample --model ${folder}`);
    return 0;
  },
});

/** The flag, else the variable that Hugging Face's own tools read, else the hub. */
function checkedUrl(flag: string | undefined): string {
  const variable = Deno.env.get("HF_ENDPOINT");
  const url = flag ?? (variable || HUB);
  if (URL.canParse(url) && /^https?:/.test(url)) return url;
  throw new UsageError(
    `${flag === undefined ? "HF_ENDPOINT" : "--base-url"} is "${url}", expected an http(s) URL`,
  );
}
