import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import type { FlagTable } from "../../commands/flags.ts";
import { commandHelp, flagsMarkdown, programHelp } from "../../commands/help.ts";

const FLAGS = {
  steps: { type: "integer", value: "N", default: 40, description: "long | short", group: "Training" },
  model: { type: "path", value: "FILE", absent: "the newest", description: "which", group: "Model" },
  device: {
    type: "choice",
    choices: ["auto", "cpu"],
    default: "auto",
    description: "where",
    group: "Training",
  },
  json: { type: "boolean", description: "print JSON", group: "Model" },
} as const satisfies FlagTable;

const COMMAND = {
  flags: FLAGS,
  positionals: { name: "FILE", description: "text files", min: 0, max: Infinity },
  details: ["A paragraph ".repeat(20).trim()],
  examples: ["llmts try --steps 3"],
};

Deno.test("programHelp() lists the commands", () => {
  assertStringIncludes(
    programHelp([{ name: "train", summary: "train a model" }]),
    "  train                       train a model\n",
  );
});

Deno.test("commandHelp() lists every flag under its group, with value and default", () => {
  const help = commandHelp("llmts try", "does a thing", COMMAND);
  const groups = help.slice(help.indexOf("\nTraining\n"), help.indexOf("\nCommon\n"));
  assertEquals(
    groups,
    [
      "",
      "Training",
      "  --steps N                   long | short (default: 40)",
      "  --device auto|cpu           where (default: auto)",
      "",
      "Model",
      "  --model FILE                which (default: the newest)",
      "  --json                      print JSON",
      "",
    ].join("\n"),
  );
  for (
    const part of [
      "llmts try: does a thing",
      "usage: llmts try [FILE…] [flags]",
      "--help",
      "--debug",
      COMMAND.examples[0],
    ]
  ) {
    assertStringIncludes(help, part!);
  }
});

Deno.test("commandHelp() wraps at 100 columns", () => {
  const long = {
    ...FLAGS,
    other: { type: "boolean", description: "word ".repeat(60).trim(), group: "Model" },
  } as const;
  const lines = commandHelp("llmts try", "does a thing", { ...COMMAND, flags: long }).split("\n");
  assert(lines.length > 25);
  for (const line of lines) assert(line.length <= 100, line);
});

Deno.test("flagsMarkdown() renders one row for each flag", () => {
  assertEquals(
    flagsMarkdown(FLAGS),
    [
      "| Flag                 | What it does  | Default    |",
      "| -------------------- | ------------- | ---------- |",
      "| `--steps N`          | Long \\| short | 40         |",
      "| `--model FILE`       | Which         | the newest |",
      "| `--device auto\\|cpu` | Where         | auto       |",
      "| `--json`             | Print JSON    |            |",
      "",
    ].join("\n"),
  );
});
