// The bench's command line, which is refused before anything is measured, and its programs that take turns.

import { assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { readResults } from "../../bench/results.ts";
import { repetitions, startServer } from "../../bench/serve.ts";
import { ROOT } from "../../dev/compile/files.ts";
import { FileError, LlmtsError } from "../../src/errors.ts";
import { llmts } from "../commands/run.ts";
import { inFolder } from "../folder.ts";
import { fp32Steps, run } from "./example.ts";

const REFUSED: readonly [args: string[], message: RegExp][] = [
  [["--fast"], /^llmts: Unknown flag "--fast"$/m],
  [["-q"], /^llmts: Unknown flag "-q"$/m],
  [["quick"], /^llmts: Unexpected argument "quick"/m],
  [["--threads", "two"], /^llmts: --threads is "two", expected a whole number/m],
  [["--threads", "0"], /^llmts: --threads is "0"/m],
  [
    ["--json", "no/such/folder/x.json"],
    /^llmts: --json is "no\/such\/folder\/x.json", but there is no folder/m,
  ],
  [["--only", "nothing"], /^llmts: --only is "nothing", expected a part of one of step-fp32-T64, /m],
];

for (const [args, message] of REFUSED) {
  Deno.test(`bench ${args.join(" ")} is refused with one line and exit code 2`, async () => {
    await inFolder(async (folder) => {
      const { code, stdout, stderr } = await llmts(folder, args, { script: "bench/main.ts" });
      assertMatch(stderr, message);
      assertEquals(stderr.split("\n").filter((line) => line !== "" && !line.startsWith("hint: ")).length, 1);
      assertEquals([code, stdout], [2, ""]);
    });
  });
}

Deno.test("bench --help lists every flag", async () => {
  await inFolder(async (folder) => {
    const { code, stdout } = await llmts(folder, ["--help"], { script: "bench/main.ts" });
    assertEquals(code, 0);
    for (const flag of ["quick", "only", "threads", "json", "baseline"]) {
      assertMatch(stdout, RegExp(`--${flag} `));
    }
  });
});

Deno.test("readResults() reads what was written and refuses the rest", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "bench.json");
    const results = run(fp32Steps());
    await Deno.writeTextFile(path, JSON.stringify(results));
    assertEquals(readResults(path), results);
    assertThrows(() => readResults(join(folder, "none.json")), FileError, "can't be read");
    await Deno.writeTextFile(path, "{");
    assertThrows(() => readResults(path), FileError, "is no JSON");
    await Deno.writeTextFile(path, JSON.stringify({ ...results, format: 1 }));
    assertThrows(() => readResults(path), FileError, "is no result of deno task bench: format");
  });
});

Deno.test("repetitions() counts after the warm-up, and ends early with at least one counted", () => {
  assertEquals([...repetitions({ warmup: 2, counted: 3 })], [false, false, true, true, true]);
  assertEquals([...repetitions({ warmup: 0, counted: 0 })], []);
  assertEquals([...repetitions({ warmup: 2, counted: 3, seconds: 0 })], [true]);
});

Deno.test("startServer() takes turns with a training step, and gives its times and memory", async () => {
  const args = ["run", "-A", "bench/train_step.ts", "small", "1", "8", "1", "fp32", "ops"];
  const server = startServer(Deno.execPath(), args, ROOT);
  try {
    for (const counted of [0, 2, 3]) {
      const { times, ops, peakBytes } = await server.turn({ warmup: 1, counted });
      assertEquals(Object.keys(times), ["forward", "backward", "optimizer", "total"]);
      assertEquals(Object.values(times).map((list) => list.length), [counted, counted, counted, counted]);
      times.total!.forEach((total, step) => {
        const parts = times.forward![step]! + times.backward![step]! + times.optimizer![step]!;
        assertEquals(Math.abs(total - parts) < 1e-6, true);
      });
      assertEquals(ops!.every((op) => op.times.length === counted), true);
      assertEquals(peakBytes > 0, Deno.build.os === "linux");
    }
  } finally {
    await server.close();
  }
});

Deno.test("startServer() says why a program ended", async () => {
  const server = startServer(
    Deno.execPath(),
    ["eval", "console.error('some error: no luck'); Deno.exit(1)"],
    ROOT,
  );
  await assertRejects(() => server.turn({ warmup: 0, counted: 1 }), LlmtsError, "some error: no luck");
  await server.close();
});
