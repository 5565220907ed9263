import { assertEquals, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { CONFIG_FLAG, effectiveConfig, readConfig } from "../../commands/config_file.ts";
import { type FlagTable, parseFlags } from "../../commands/flags.ts";
import { FileError } from "../../src/errors.ts";

const FLAGS = {
  batchSize: { type: "integer", value: "B", min: 1, max: 1024, default: 4, description: "", group: "" },
  learningRate: { type: "number", value: "RATE", above: 0, description: "", group: "" },
  prompt: { type: "string", value: "TEXT", description: "", group: "" },
  out: { type: "path", value: "DIR", default: "out", description: "", group: "" },
  device: { type: "choice", choices: ["auto", "cpu"], default: "auto", description: "", group: "" },
  resume: { type: "boolean", description: "", group: "" },
  config: CONFIG_FLAG,
} as const satisfies FlagTable;

/** Runs with the path of a file that has the text. */
function withFile<T>(text: string, run: (path: string) => T): T {
  const folder = Deno.makeTempDirSync();
  try {
    const path = join(folder, "run.json");
    Deno.writeTextFileSync(path, text);
    return run(path);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
}

function parse(text: string, ...args: string[]) {
  return withFile(
    text,
    (path) => parseFlags({ usage: "llmts try", flags: FLAGS }, ["--config", path, ...args]).values,
  );
}

/** The message about a file's text, without the file's name before it, and the hint. */
function failure(text: string): { message: string; hint: string | undefined } {
  return withFile(text, (path) => {
    const { message, hint } = assertThrows(() => readConfig(path, FLAGS), FileError);
    assertEquals(message.startsWith(`"${path}": `), true, message);
    assertEquals(message.includes("\n"), false, message);
    return { message: message.slice(`"${path}": `.length), hint };
  });
}

Deno.test("parseFlags() takes flags from a config file, and the command line's before them", () => {
  const text = `{
    "batch-size": 8, "learning-rate": 3e-4, "prompt": "", "out": "a b", "device": "cpu", "resume": true
  }`;
  const { config: _, ...values } = parse(text);
  assertEquals(values, {
    batchSize: 8,
    learningRate: 3e-4,
    prompt: "",
    out: "a b",
    device: "cpu",
    resume: true,
  });
  const { config: __, ...mixed } = parse(text, "--batch-size", "2", "--out=out");
  assertEquals(mixed, { ...values, batchSize: 2, out: "out" });
});

Deno.test("parseFlags() fills in defaults for what neither config file nor command line has", () => {
  const { config: _, ...values } = parse('{"device": "cpu", "resume": false}');
  assertEquals(values, {
    batchSize: 4,
    learningRate: undefined,
    prompt: undefined,
    out: "out",
    device: "cpu",
    resume: false,
  });
});

Deno.test("readConfig() is as strict with values as the command line", () => {
  for (const value of ["0", "-5", "1.5", "1025", "1e999", '"8"', "true", "null", "[8]", "{}"]) {
    assertEquals(
      failure(`{"batch-size": ${value}}`).message,
      `line 1: "batch-size" is ${value}, expected a whole number from 1 to 1024`,
    );
  }
  for (const value of ["0", "-1e-3", '"3e-4"']) {
    assertEquals(
      failure(`{"learning-rate": ${value}}`).message,
      `line 1: "learning-rate" is ${value}, expected a number above 0`,
    );
  }
  for (
    const [name, value, expected] of [
      ["device", '"gpu"', "one of auto, cpu"],
      ["device", "1", "one of auto, cpu"],
      ["out", '""', "a path"],
      ["out", '"a\\u0000b"', "a path"],
      ["prompt", "7", "text"],
      ["resume", '"yes"', "true or false"],
      ["resume", "1", "true or false"],
    ]
  ) {
    assertEquals(
      failure(`{"${name}": ${value}}`).message,
      `line 1: "${name}" is ${value}, expected ${expected}`,
    );
  }
});

Deno.test("readConfig() takes a byte order mark, and no text but UTF-8 (A-57)", () => {
  assertEquals(parse('\ufeff{"batch-size": 8}').batchSize, 8);
  const { message } = failure('\ufeff{"batch-size":\n [1,\n 2]}');
  assertEquals(message, 'line 1: "batch-size" is [1, 2], expected a whole number from 1 to 1024');
  for (const [bytes, offset] of [[[0x7b, 0xe9, 0x7d], 1], [[0xff, 0xfe, 0x7b, 0], 0]] as const) {
    withFile("", (path) => {
      Deno.writeFileSync(path, Uint8Array.from(bytes)); // Latin-1; UTF-16, as PowerShell writes
      const words = `"${path}": is not UTF-8 text: invalid bytes at offset ${offset}`;
      assertThrows(() => readConfig(path, FLAGS), FileError, words);
    });
  }
});

Deno.test("readConfig() refuses names that are no flags, and names the nearest", () => {
  for (const name of ["batchsize", "batchSize", "--batch-size", "batch_size"]) {
    assertEquals(failure(`{\n"${name}": 4}`), {
      message: `line 2 has the unknown flag "${name}"`,
      hint: 'did you mean "batch-size"? Names are the flags\' without dashes before them',
    });
  }
  for (const name of ["config", "help", "debug", "__proto__", "toString", ""]) {
    assertEquals(failure(`{"${name}": "x"}`).message, `line 1 has the unknown flag "${name}"`);
  }
});

Deno.test("readConfig() refuses a name that is there twice, however it is spelt", () => {
  assertEquals(failure('{"out": "a",\n "device": "cpu",\n "out": "a"}').message, 'line 3 has "out" again');
  assertEquals(failure('{"out": "a", "\\u006fut": "a"}').message, 'line 1 has "out" again');
});

Deno.test("readConfig() refuses what is not a JSON object", () => {
  for (
    const text of [
      "",
      "{",
      '{"out": "a",}',
      "{out: 1}",
      "// note\n{}",
      "{} {}",
      "{'out': 1}",
      "<html>",
      '{"out": "\n"}',
    ]
  ) {
    assertEquals(failure(text).message.slice(0, 13), "is not JSON: ");
  }
  for (
    const [text, type] of [["[]", "array"], ["7", "number"], ['"out"', "string"], ["null", "null"]] as const
  ) {
    assertEquals(failure(text).message, `is a JSON ${type}, expected an object of flags by name`);
  }
});

Deno.test("readConfig() says when there is no such file, or a folder", () => {
  const missing = join(Deno.makeTempDirSync(), "run.json");
  assertEquals(
    assertThrows(() => readConfig(missing, FLAGS), FileError).message,
    `"${missing}": cannot be opened: no such file or folder`,
  );
  Deno.mkdirSync(missing);
  assertThrows(() => readConfig(missing, FLAGS), FileError, `"${missing}": is a folder, expected a file`);
  Deno.removeSync(join(missing, ".."), { recursive: true });
});

Deno.test("effectiveConfig() gives the same flags again when it is read", () => {
  for (
    const args of [
      [],
      ["--batch-size", "8", "--learning-rate", "1.2345678901234567e-7", "--resume"],
      ["--prompt", '"\\ \u0000é\ud83d\ude00\n', "--out", "b"],
    ]
  ) {
    const { config: _, ...values } = parse('{"device": "cpu"}', ...args);
    const { config: __, ...again } = parse(effectiveConfig(FLAGS, values));
    assertEquals(again, values);
  }
});

Deno.test("effectiveConfig() writes flags by name, without those that are undefined and without --config", () => {
  const values = { batchSize: 4, learningRate: undefined, out: "out", resume: false, config: "run.json" };
  assertEquals(
    effectiveConfig(FLAGS, values),
    '{\n  "batch-size": 4,\n  "out": "out",\n  "resume": false\n}\n',
  );
});
