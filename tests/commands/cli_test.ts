import { assertEquals, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { COMMANDS } from "../../cli.ts";
import { flagName } from "../../commands/flags.ts";
import config from "../../deno.json" with { type: "json" };
import { llmts } from "./run.ts";
import { inSmallFolder } from "./small_model.ts";

Deno.test("llmts prints its help and version", async () => {
  const { code, stdout, stderr } = await llmts(".", []);
  assertEquals([code, stderr], [0, ""]);
  for (const { name, summary } of COMMANDS) assertStringIncludes(stdout, `  ${name.padEnd(28)}${summary}\n`);
  for (const args of [["--help"], ["-h"], ["help"]]) assertEquals((await llmts(".", args)).stdout, stdout);
  for (const flag of ["--version", "-V"]) {
    assertEquals(await llmts(".", [flag]), { code: 0, stdout: `llmts ${config.version}\n`, stderr: "" });
  }
});

Deno.test("llmts COMMAND --help names every flag of every command", async () => {
  for (const { name, load } of COMMANDS) {
    const { code, stdout, stderr } = await llmts(".", [name, "--help"]);
    assertEquals([code, stderr], [0, ""], name);
    const { command } = await load();
    for (const property of Object.keys(command.flags)) {
      assertStringIncludes(stdout, `  ${flagName(property)}`);
    }
  }
  assertEquals(await llmts(".", ["help", "train"]), await llmts(".", ["train", "--steps", "x", "--help"]));
});

Deno.test("llmts words usage errors in two lines and exits with 2", async () => {
  const cases: [args: string[], lines: string[]][] = [
    [["trian"], ['Unknown command "trian"', "did you mean train? The commands: llmts --help"]],
    [["--steps", "3"], [
      'Unknown flag "--steps" before the command',
      "llmts COMMAND [flags]; the commands: llmts --help",
    ]],
    [["train", "--stpes", "3"], [
      'Unknown flag "--stpes"',
      "did you mean --steps? All flags: llmts train --help",
    ]],
    [["train", "--batch-size", "64x"], [
      '--batch-size is "64x", expected a whole number of at least 1',
      "expected --batch-size B",
    ]],
    [["train", "--out"], ["--out needs a value", "expected --out DIR"]],
    [["train", "a.bin"], [
      'Unexpected argument "a.bin": llmts train takes no arguments but flags',
      "quote names with spaces and patterns; all flags: llmts train --help",
    ]],
  ];
  for (const [args, [message, hint]] of cases) {
    assertEquals(await llmts(".", args), {
      code: 2,
      stdout: "",
      stderr: `llmts: ${message}\nhint: ${hint}\n`,
    });
  }
});

Deno.test("llmts prints a stack trace only with --debug", async () => {
  const args = ["train", "--data", "no such file"];
  const plain = await llmts(".", args);
  assertEquals([plain.code, plain.stdout], [1, ""]);
  assertEquals(plain.stderr.includes("    at "), false);
  assertStringIncludes((await llmts(".", [...args, "--debug"])).stderr, "    at ");
});

Deno.test("llmts names the permission it lacks and what gives it", async () => {
  const cases: [command: string, permissions: string[], lacks: string][] = [
    ["info", [], "env access to "],
    ["info", ["--allow-env", "--allow-sys", "--allow-ffi"], "read access to "], // not: there is no library
    ["info", ["--allow-env", "--allow-sys", "--allow-read"], "ffi access to "], // not: it can't be loaded
    ["download gpt2", ["-A", "--deny-net"], "net access to "], // not: the network doesn't work
  ];
  for (const [command, permissions, lacks] of cases) {
    const { code, stderr } = await llmts(".", command.split(" "), { permissions });
    assertEquals(code, 1);
    assertStringIncludes(stderr, `llmts: Requires ${lacks}`);
    assertStringIncludes(stderr, "hint: deno run -A cli.ts gives llmts all it needs\n");
  }
});

Deno.test("llmts computes on the CPU where it may load no library but its own (D-13)", async () => {
  await inSmallFolder(async (folder) => {
    const libraries = join(import.meta.dirname!, "..", "..", "build", "lib");
    const permissions = ["--allow-read", "--allow-env", "--allow-sys", `--allow-ffi=${libraries}`];
    const args = ["eval", "--model", "small.bin", "--data", "fox_val.bin", "--seq-len", "16"];
    const { code, stderr } = await llmts(folder, [...args, "--device", "cpu"], { permissions });
    assertEquals([code, stderr], [0, ""]);
  });
});
