/**
 * The front door: `llmts COMMAND [flags]`. Each command is a file in commands/, imported when it runs.
 *
 * @module
 */
import { type CommandEntry, dispatch } from "./commands/dispatch.ts";
import config from "./deno.json" with { type: "json" };

/** The commands, in the order of the help. */
export const COMMANDS: readonly CommandEntry[] = [
  { name: "train", summary: "train a GPT-2 and sample from it", load: () => import("./commands/train.ts") },
  {
    name: "sample",
    summary: "continue a prompt with a trained model",
    load: () => import("./commands/sample.ts"),
  },
  {
    name: "eval",
    summary: "measure a model's loss on token files",
    load: () => import("./commands/eval.ts"),
  },
  {
    name: "data",
    summary: "turn text into token files for training",
    load: () => import("./commands/data.ts"),
  },
  {
    name: "convert",
    summary: "turn a model into llm.c's or Hugging Face's format",
    load: () => import("./commands/convert.ts"),
  },
  {
    name: "download",
    summary: "fetch a GPT-2 from the Hugging Face hub",
    load: () => import("./commands/download.ts"),
  },
  {
    name: "verify",
    summary: "compare a model's numbers with PyTorch's",
    load: () => import("./commands/verify.ts"),
  },
  {
    name: "info",
    summary: "show version, kernel library, threads and memory needed",
    load: () => import("./commands/info.ts"),
  },
];

if (import.meta.main) Deno.exitCode = await dispatch(COMMANDS, config.version, Deno.args);
