import { assert, assertEquals, assertThrows } from "@std/assert";
import { checkDeno, errorLines } from "../../commands/dispatch.ts";
import { LlmtsError } from "../../src/errors.ts";

Deno.test("errorLines() gives message and hint of an error for the user", () => {
  assertEquals(errorLines(new LlmtsError("No such model", { hint: "try d4" }), false), [
    "llmts: No such model",
    "hint: try d4",
  ]);
  assertEquals(errorLines(new LlmtsError("No such model"), false), ["llmts: No such model"]);
});

Deno.test("errorLines() calls anything unexpected a bug and keeps the stack for --debug", () => {
  const error = new TypeError("x is undefined");
  assertEquals(errorLines(error, false), [
    "llmts: x is undefined",
    "hint: this is a bug in llmts; the same command with --debug prints where",
  ]);
  assertEquals(errorLines(error, true), [
    "llmts: x is undefined",
    "hint: this is a bug in llmts",
    error.stack ?? "",
  ]);
  assertEquals(errorLines("thrown text", true)[0], "llmts: thrown text");
});

Deno.test("errorLines() doesn't call the operating system's refusals bugs", () => {
  const error = assertThrows(() => Deno.readTextFileSync("no such file"));
  assert(error instanceof Error);
  assertEquals(errorLines(error, false), [`llmts: ${error.message}`]);
});

Deno.test("checkDeno() refuses a Deno that is too old, with the command that installs a newer one", () => {
  for (const version of ["1.46.3", "2.8.9", "2.9.5"]) {
    const error = assertThrows(() => checkDeno(version), LlmtsError);
    assertEquals(error.message, `llmts needs Deno 2.9.6 or newer, this is ${version}`);
    assertEquals(error.hint, "deno upgrade, or npm install -g deno@2.9.6");
  }
  for (const version of ["2.9.6", "2.9.6+abc1234", "2.9.10", "2.10.0", "3.0.0-rc.1"]) checkDeno(version);
});
