import { assert, assertEquals, assertThrows } from "@std/assert";
import { flagName, type FlagTable, type FlagValues, parseFlags, wantsHelp } from "../../commands/flags.ts";
import { UsageError } from "../../src/errors.ts";

const FLAGS = {
  batchSize: { type: "integer", value: "B", min: 1, max: 1024, default: 4, description: "", group: "" },
  seed: { type: "integer", value: "N", min: 0, description: "", group: "" },
  learningRate: { type: "number", value: "RATE", above: 0, description: "", group: "" },
  topP: { type: "number", value: "P", min: 0, max: 1, default: 1, description: "", group: "" },
  prompt: { type: "string", value: "TEXT", description: "", group: "" },
  out: { type: "path", value: "DIR", default: "out", description: "", group: "" },
  device: { type: "choice", choices: ["auto", "cpu"], default: "auto", description: "", group: "" },
  json: { type: "boolean", description: "", group: "" },
} as const satisfies FlagTable;

function parse(...args: string[]): FlagValues<typeof FLAGS> {
  return parseFlags({ usage: "llmts try", flags: FLAGS }, args).values;
}

function failure(...args: string[]): { message: string; hint: string | undefined } {
  const { message, hint } = assertThrows(() => parse(...args), UsageError);
  return { message, hint };
}

Deno.test("flagName() puts dashes where a property has capitals", () => {
  assertEquals(["steps", "batchSize", "topP"].map(flagName), ["--steps", "--batch-size", "--top-p"]);
});

Deno.test("parseFlags() fills in defaults and leaves the rest undefined", () => {
  const values = parse();
  assertEquals(values, {
    batchSize: 4,
    seed: undefined,
    learningRate: undefined,
    topP: 1,
    prompt: undefined,
    out: "out",
    device: "auto",
    json: false,
  });
  // The types follow from the table: these lines compile only if they do.
  const batchSize: number = values.batchSize;
  const seed: number | undefined = values.seed;
  const device: "auto" | "cpu" = values.device;
  const json: boolean = values.json;
  // @ts-expect-error prompt has no default, so it may be undefined
  const prompt: string = values.prompt;
  assertEquals([batchSize, seed, device, json, prompt], [4, undefined, "auto", false, undefined]);
});

Deno.test("parseFlags() tells flags that are given, with their defaults too, from those that are not", () => {
  const { given } = parseFlags({ usage: "llmts try", flags: FLAGS }, ["--batch-size", "4", "--json"]);
  assertEquals([...given], ["batchSize", "json"]);
});

Deno.test("parseFlags() reads `--flag value` and `--flag=value` alike", () => {
  for (const args of [["--batch-size", "8", "--out", "a b"], ["--batch-size=8", "--out=a b"]]) {
    const { batchSize, out } = parse(...args);
    assertEquals({ batchSize, out }, { batchSize: 8, out: "a b" });
  }
  assertEquals(parse("--json", "--learning-rate", "3e-4").learningRate, 3e-4);
  assertEquals(parse("--prompt=a=b").prompt, "a=b");
});

Deno.test("parseFlags() tells an empty value from no value and from no flag", () => {
  assertEquals(parse("--prompt=").prompt, "");
  assertEquals(parse("--prompt", "").prompt, "");
  assertEquals(parse().prompt, undefined);
  assertEquals(failure("--prompt").message, "--prompt needs a value");
  assertEquals(failure("--out=").message, '--out is "", expected a path');
});

Deno.test("parseFlags() takes a value that starts with a dash, but not a flag", () => {
  assertEquals(parse("--prompt", "-").prompt, "-");
  assertEquals(parse("--prompt", "- one").prompt, "- one");
  assertEquals(parse("--prompt=--json").prompt, "--json");
  assertEquals(failure("--prompt", "--json").message, '--prompt needs a value, found the flag "--json"');
  assertEquals(failure("--prompt", "--out=x").message, '--prompt needs a value, found the flag "--out=x"');
});

Deno.test("parseFlags() refuses what is not a whole number within the range, by the flag's name", () => {
  for (const text of ["0", "-5", "abc", "64x", "1e3", "4.0", "NaN", "Infinity", "", " 4", "0x10", "1025"]) {
    assertEquals(
      failure("--batch-size", text).message,
      `--batch-size is "${text}", expected a whole number from 1 to 1024`,
    );
  }
  assertEquals(failure("--seed=99999999999999999999").message.slice(0, 7), "--seed ");
  assertEquals(failure("--seed=-1").message, '--seed is "-1", expected a whole number of at least 0');
  assertEquals(parse("--seed", "0").seed, 0);
});

Deno.test("parseFlags() refuses what is not a finite number within the range", () => {
  for (const text of ["", "NaN", "Infinity", "1e999", "-1", "0", "0.1x", ".", "1,5"]) {
    assertEquals(
      failure(`--learning-rate=${text}`).message,
      `--learning-rate is "${text}", expected a number above 0`,
    );
  }
  assertEquals(failure("--top-p", "1.01").message, '--top-p is "1.01", expected a number from 0 to 1');
  assertEquals(["1", "1.", ".5", "5e-1", "+1", "0"].map((text) => parse(`--top-p=${text}`).topP), [
    1,
    1,
    .5,
    .5,
    1,
    0,
  ]);
});

Deno.test("parseFlags() refuses a word that is no choice", () => {
  assertEquals(failure("--device", "gpu").message, '--device is "gpu", expected one of auto, cpu');
  assertEquals(parse("--device", "cpu").device, "cpu");
});

Deno.test("parseFlags() refuses an unknown flag and names the nearest", () => {
  for (const flag of ["--batchsize", "--batch_size=4", "-batch-size", "--Batch-Size"]) {
    const { message, hint } = failure(flag);
    assertEquals(message, `Unknown flag "${flag.replace("=4", "")}"`);
    assertEquals(hint, "did you mean --batch-size? All flags: llmts try --help");
  }
  for (const flag of ["--no-json", "--constructor", "--__proto__", "-x"]) {
    assertEquals(failure(flag).message, `Unknown flag "${flag}"`);
  }
});

Deno.test("parseFlags() refuses a flag given twice", () => {
  assertEquals(failure("--seed", "1", "--seed=1").message, "--seed is given twice");
  assertEquals(failure("--json", "--json").message, "--json is given twice");
});

Deno.test("parseFlags() refuses a value for a flag that takes none", () => {
  assertEquals(failure("--json=false").message, '--json takes no value, found "false"');
});

Deno.test("parseFlags() refuses positional arguments unless they are declared", () => {
  assertEquals(
    failure("a.bin").message,
    'Unexpected argument "a.bin": llmts try takes no arguments but flags',
  );
  assertEquals(
    failure("--json", "true").message,
    'Unexpected argument "true": llmts try takes no arguments but flags',
  );
  const spec = {
    usage: "llmts try",
    flags: FLAGS,
    positionals: { name: "FILE", description: "", min: 1, max: 2 },
  };
  assertEquals(parseFlags(spec, ["a b", "--json", "--", "--seed"]).positionals, ["a b", "--seed"]);
  assertEquals(assertThrows(() => parseFlags(spec, []), UsageError).message, "llmts try needs FILE");
  assertEquals(
    assertThrows(() => parseFlags(spec, ["a", "b", "c"]), UsageError).message,
    'Unexpected argument "c": llmts try takes at most 2 FILE',
  );
});

Deno.test("wantsHelp() finds --help and -h anywhere before --", () => {
  assert(wantsHelp(["--steps", "x", "--help"]));
  assert(wantsHelp(["-h"]));
  assert(!wantsHelp(["--", "--help"]));
  assert(!wantsHelp(["--helpful"]));
});
