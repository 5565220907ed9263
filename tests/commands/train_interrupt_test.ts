import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { join } from "@std/path";
import { checkpointFiles, completeSteps } from "../../src/checkpoints.ts";
import { llmts, signalled, start } from "./run.ts";
import { inSmallFolder, SILENT, SMALL_RUN, writeSmallModel } from "./small_model.ts";

const onlyWithSignals = { ignore: Deno.build.os === "windows" };

for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
  Deno.test(
    `llmts train finishes the step at ${signal}, saves, and goes on to the bits of an undisturbed run (A-10)`,
    onlyWithSignals,
    async () => {
      await inSmallFolder(async (folder) => {
        // Long enough to be still running when the signal comes, wherever that is.
        const run = [...SMALL_RUN, "--val-every", "50", "--sample-every", "0", "--steps", "600"];
        assertEquals((await llmts(folder, [...run, "--out", "undisturbed"])).code, 0);
        const at = new RegExp(`^step +${1 + Math.floor(40 * Math.random())}/`, "m");
        const { code, stdout, stderr } = await signalled(folder, [...run, "--out", "stopped here"], {
          at,
          signal,
        });
        assertEquals([code, stderr], [130, ""]);
        const last = Number([...stdout.matchAll(/^step +(\d+)\//gm)].at(-1)![1]);
        assertStringIncludes(stdout, "interrupted: finishing the step; Ctrl-C again stops at once\n");
        assertMatch(stdout, /\nto go on: llmts train --resume --out 'stopped here'\n$/);
        const out = join(folder, "stopped here");
        assertEquals(completeSteps(out), [last]);

        const resumed = await llmts(folder, ["train", "--resume", "--out", "stopped here"]);
        assertEquals([resumed.code, resumed.stderr], [0, ""]);
        for (const file of ["model", "state"] as const) {
          const [ended, expected] = [out, join(folder, "undisturbed")].map((path) =>
            Deno.readFileSync(checkpointFiles(path, 600)[file])
          );
          assertEquals(ended, expected, `${file}, interrupted after step ${last}`);
        }
        assertEquals(
          Deno.readTextFileSync(join(out, "main.log")),
          Deno.readTextFileSync(join(folder, "undisturbed", "main.log")),
        );
      });
    },
  );
}

Deno.test(
  "llmts train stops at once at a second Ctrl-C, in the middle of a kernel",
  onlyWithSignals,
  async () => {
    await inSmallFolder(async (folder) => {
      // Batches that take seconds each: 16 of them are one step, so the first signal is seen after the first.
      await writeSmallModel(folder, { maxT: 1024, V: 50257, Vp: 50304, L: 1, NH: 2, C: 64 });
      const child = start(folder, [
        ...["train", "--model", "small.bin", "--threads", "1", "--batch-size", "8", "--seq-len", "1024"],
        ...["--total-batch-size", String(8 * 1024 * 16), ...SILENT],
      ]);
      const stderr = new Response(child.stderr).text();
      let stdout = "";
      let signals = 0;
      let last = 0;
      for await (const text of child.stdout.pipeThrough(new TextDecoderStream())) {
        stdout += text;
        if (signals === 0 && stdout.includes("batches in a step: 16")) {
          setTimeout(() => child.kill("SIGINT"), 300);
          signals = 1;
        }
        if (signals === 1 && stdout.includes("interrupted: ")) {
          // The next batch is under way by then.
          setTimeout(() => {
            last = performance.now();
            child.kill("SIGINT");
          }, 500);
          signals = 2;
        }
      }
      const { code } = await child.status;
      const took = performance.now() - last;
      assertEquals([signals, code, await stderr], [2, 130, ""]);
      assert(took < 5000, `it took ${took} ms to end`);
      assertEquals(completeSteps(join(folder, "out")), []);
    });
  },
);

Deno.test(
  "llmts train leaves a long validation at Ctrl-C, and makes it up when it goes on",
  onlyWithSignals,
  async () => {
    await inSmallFolder(async (folder) => {
      // Most of the time goes into validation, so that is where the signal comes, nearly always.
      const args = [
        "--val-data",
        "fox_train.bin",
        "--val-every",
        "2",
        "--val-tokens",
        "0",
        "--sample-every",
        "0",
      ];
      const slow = [...SMALL_RUN, ...args, "--steps", "60"];
      assertEquals((await llmts(folder, [...slow, "--out", "undisturbed"])).code, 0);
      const at = /^step +5\//m;
      const stopped = await signalled(folder, slow, { at, signal: "SIGINT" });
      assertEquals(stopped.code, 130, stopped.stderr);
      assertEquals((await llmts(folder, ["train", "--resume"])).code, 0);
      const log = (out: string): string => Deno.readTextFileSync(join(folder, out, "main.log"));
      assertEquals(log("out"), log("undisturbed"));
    });
  },
);
