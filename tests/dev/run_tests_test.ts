// The runner's closing line, on real runs of `deno test`: CI reads it.

import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { ROOT } from "../../dev/compile/files.ts";

/** Runs the runner on a test file with this content; its exit code and last lines. */
async function runTests(content: string, ...args: string[]): Promise<{ code: number; closing: string[] }> {
  const folder = await Deno.makeTempDir();
  try {
    const file = join(folder, "some_test.ts");
    await Deno.writeTextFile(file, content);
    const { code, stdout } = await new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--allow-all",
        join(ROOT, "dev", "run_tests.ts"),
        "--no-check",
        "--no-config",
        ...args,
        file,
      ],
      stderr: "null",
    }).output();
    const closing = new TextDecoder().decode(stdout).trim().split("\n")
      .filter((line) => /^(skipped|no test|\d+ passed)/.test(line));
    return { code, closing };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

const PASSES = `Deno.test("a() works", () => {});`;
const SKIPPED = `Deno.test({ name: "b() works (skipped: no GPU)", ignore: true, fn() {} });
Deno.test("c() works", (t) => t.step({ name: "with d (skipped: no PyTorch)", ignore: true, fn() {} }).then(() => {}));`;

Deno.test("run_tests.ts closes with the counts, after the skipped tests and steps", async () => {
  const closing = ["skipped: b() works (skipped: no GPU)", "skipped: with d (skipped: no PyTorch)"];
  assertEquals(await runTests(`${PASSES}\n${SKIPPED}`), {
    code: 0,
    closing: [...closing, "2 passed, 0 failed, 2 skipped"],
  });
});

Deno.test("run_tests.ts counts failures and hands on the exit code", async () => {
  const step = `Deno.test("e() works", (t) => t.step("x", () => { throw new Error("no"); }).then(() => {}));`;
  assertEquals(await runTests(`${PASSES}\n${step}`), { code: 1, closing: ["1 passed, 1 failed, 0 skipped"] });
});

Deno.test("run_tests.ts counts a file that fails outside of its tests", async () => {
  const outside = await runTests(`${PASSES}\nthrow new Error("no");`);
  assertEquals(outside, { code: 1, closing: ["0 passed, 1 failed, 0 skipped"] });
  const dies = await runTests(`${PASSES}\nDeno.test("f() works", () => Deno.kill(Deno.pid, "SIGKILL"));`);
  assertEquals(dies.code !== 0, true);
  assertEquals(dies.closing, ["0 passed, 1 failed, 0 skipped"]);
});

Deno.test("run_tests.ts fails where no test was run", async () => {
  assertEquals(await runTests(PASSES, "--filter", "zzz"), {
    code: 1,
    closing: ["no test was run", "0 passed, 0 failed, 0 skipped"],
  });
});
