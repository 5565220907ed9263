import { assert, assertEquals, assertMatch, assertRejects, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { openDevice } from "../ffi/device.ts";
import { float32 } from "../ffi/tensor.ts";
import {
  checkDiskSpace,
  checkpointFiles,
  completeSteps,
  deleteCheckpoint,
  loneModels,
  pruneCheckpoints,
  removeLeftovers,
  saveCheckpoint,
} from "../src/checkpoints.ts";
import { FileError, LlmtsError } from "../src/errors.ts";
import { readCheckpoint } from "../src/io/checkpoint.ts";
import { temporaryPath } from "../src/io/files.ts";
import { readRunState, type RunState } from "../src/io/run_state.ts";
import { readState } from "../src/io/state.ts";
import { allocateParameters } from "../src/parameters.ts";
import { fixturePath } from "./fixtures.ts";
import { inFolder } from "./folder.ts";

const device = openDevice();
const model = readCheckpoint(fixturePath("models/odd.bin"), device);
const optimizer = {
  device,
  m: allocateParameters(model.config, device, "fp32"),
  v: allocateParameters(model.config, device, "fp32"),
  master: null,
};
float32(optimizer.m.wte).fill(0.25);

function runState(step: number): RunState {
  const empty = { values: [], next: 0, sum: 0, sumOfSquares: 0 };
  return {
    step,
    tokens: 0,
    epoch: 0,
    best: null,
    validated: null,
    losses: empty,
    norms: empty,
    flags: {},
  };
}

function save(folder: string, step: number): Promise<void> {
  const loader = { shard: 0, sample: step, epoch: 0, shuffle: null };
  const state = { step, loader, rounding: 0n, roundingBefore: 0n };
  return saveCheckpoint(folder, { model, stored: "fp32", optimizer, state, run: runState(step) });
}

/** Empty files in place of a complete checkpoint: what is kept and deleted goes by names. */
function touch(folder: string, steps: readonly number[]): void {
  for (const step of steps) for (const path of Object.values(checkpointFiles(folder, step))) touchFile(path);
}

function touchFile(path: string): void {
  Deno.writeTextFileSync(path, "");
}

function names(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

Deno.test("saveCheckpoint() writes the four files, llm.c's by llm.c's names", async () => {
  await inFolder(async (folder) => {
    await save(folder, 40);
    assertEquals(names(folder), [
      "DONE_00000040",
      "model_00000040.bin",
      "run_00000040.json",
      "state_00000040_00000.bin",
    ]);
    const files = checkpointFiles(folder, 40);
    assertEquals(Deno.readFileSync(files.model), Deno.readFileSync(fixturePath("models/odd.bin")));
    assertEquals(readState(files.state, optimizer).step, 40);
    assertEquals(readRunState(files.run), runState(40));
    assertEquals(Deno.statSync(files.done).size, 0);
    await save(folder, 40);
    await save(folder, 7);
    assertEquals(completeSteps(folder), [7, 40]);
  });
});

Deno.test("saveCheckpoint() that fails leaves no DONE, and other checkpoints as they were (A-27)", async () => {
  await inFolder(async (folder) => {
    await save(folder, 10);
    // Each file in turn can't be written: a folder has its name.
    for (const key of ["run", "model", "state"] as const) {
      const path = checkpointFiles(folder, 20)[key];
      Deno.mkdirSync(path);
      touchFile(join(path, "in the way"));
      await assertRejects(() => save(folder, 20), FileError, path);
      assertEquals(completeSteps(folder), [10]);
      assertEquals(names(folder).filter((name) => name.endsWith(".tmp") || name.startsWith("DONE")), [
        "DONE_00000010",
      ]);
      Deno.removeSync(path, { recursive: true });
      removeLeftovers(folder);
    }
    await save(folder, 20);
    assertEquals(completeSteps(folder), [10, 20]);
  });
});

Deno.test("saveCheckpoint() over a checkpoint of the same step takes its DONE away until it is whole again", async () => {
  await inFolder(async (folder) => {
    await save(folder, 20);
    const { state } = checkpointFiles(folder, 20);
    Deno.removeSync(state);
    Deno.mkdirSync(join(state, "in the way"), { recursive: true });
    await assertRejects(() => save(folder, 20), FileError, state);
    assertEquals(names(folder).filter((name) => name.startsWith("DONE")), []);
  });
});

Deno.test("completeSteps() takes only whole sets with DONE, and llm.c's without a run_ file (A-27)", async () => {
  await inFolder((folder) => {
    assertEquals(completeSteps(join(folder, "none")), []);
    touch(folder, [5, 10, 20, 30, 40]);
    Deno.removeSync(checkpointFiles(folder, 10).run);
    Deno.removeSync(checkpointFiles(folder, 20).model);
    Deno.removeSync(checkpointFiles(folder, 30).state);
    Deno.removeSync(checkpointFiles(folder, 40).done);
    for (const name of ["DONE_abc", "DONE_00000050.bak", "DONE_", "DONE_60"]) touchFile(join(folder, name));
    Deno.mkdirSync(join(folder, "DONE_00000070"));
    assertEquals(completeSteps(folder), [5, 10]);
  });
});

Deno.test("loneModels() are those of neither complete nor unfinished sets (A-29)", async () => {
  await inFolder((folder) => {
    assertEquals(loneModels(join(folder, "none")), []);
    touch(folder, [5, 10, 20]);
    Deno.removeSync(checkpointFiles(folder, 10).done); // unfinished
    Deno.removeSync(checkpointFiles(folder, 20).state);
    for (const name of ["model_00000030.bin", "model_40.bin", "gpt2_124M.bin"]) touchFile(join(folder, name));
    assertEquals(loneModels(folder), [20, 30]);
  });
});

Deno.test("pruneCheckpoints() keeps the newest k, majors on whatever grid, and the best", async (t) => {
  const steps = [10, 20, 25, 30, 40, 47];
  const cases: [keep: number, majorEvery: number, best: number | undefined, deleted: number[]][] = [
    [0, 0, undefined, []],
    [1, 0, undefined, [10, 20, 25, 30, 40]],
    [2, 0, undefined, [10, 20, 25, 30]],
    [6, 0, undefined, []],
    [9, 0, undefined, []],
    [1, 20, undefined, [10, 25, 30]],
    [1, 25, undefined, [10, 20, 30, 40]],
    [2, 0, 20, [10, 25, 30]],
    [1, 47, undefined, [10, 20, 25, 30, 40]],
  ];
  for (const [keep, majorEvery, best, deleted] of cases) {
    await t.step(`keep ${keep}, majors ${majorEvery}, best ${best ?? "none"}`, () =>
      inFolder((folder) => {
        touch(folder, steps);
        assertEquals(pruneCheckpoints(folder, { keep, majorEvery, best }), deleted);
        assertEquals(completeSteps(folder), steps.filter((step) => !deleted.includes(step)));
        assertEquals(names(folder).length, 4 * (steps.length - deleted.length));
      }));
  }
});

Deno.test("deleteCheckpoint() takes DONE first, so that a stop half way leaves no whole set", async () => {
  await inFolder((folder) => {
    touch(folder, [10]);
    const files = checkpointFiles(folder, 10);
    Deno.removeSync(files.model);
    Deno.mkdirSync(join(files.model, "in the way"), { recursive: true });
    assertThrows(() => deleteCheckpoint(folder, 10), FileError);
    assertEquals(names(folder), ["model_00000010.bin", "run_00000010.json", "state_00000010_00000.bin"]);
    Deno.removeSync(files.model, { recursive: true });
    removeLeftovers(folder);
    assertEquals(names(folder), []);
  });
});

Deno.test("removeLeftovers() removes what a killed run left, and nothing of others (A-27)", async () => {
  await inFolder((folder) => {
    touch(folder, [10, 20]);
    const files = checkpointFiles(folder, 20);
    Deno.removeSync(files.done);
    for (const path of Object.values(files)) touchFile(temporaryPath(path));
    for (const name of ["run.json", "main.log", "metrics.jsonl"]) {
      touchFile(temporaryPath(join(folder, name)));
    }
    const others = [
      "model_00000030.bin", // a model alone: llmts train without checkpoints, or a user's copy
      "state_00000030_00000.bin",
      ".model_00000040.bin.tmp",
      ".notes.0123abcd.tmp",
      ".my_run.json.0123abcd.tmp",
      "main.log",
    ];
    for (const name of others) touchFile(join(folder, name));
    const kept = Object.values(checkpointFiles("", 10));
    removeLeftovers(folder);
    assertEquals(names(folder), [...others, ...kept].sort());
  });
});

Deno.test("checkDiskSpace() compares with what the disk has left", async () => {
  await inFolder((folder) => {
    checkDiskSpace(folder, 1);
    checkDiskSpace(join(folder, "none"), 1e18);
    const error = assertThrows(() => checkDiskSpace(folder, 1e18), LlmtsError);
    assertMatch(error.message, /^A checkpoint takes 888 PiB, the disk of ".*" has [\d.]+ [kKMGT]iB left$/);
    assert(error.hint !== undefined);
  });
});

Deno.test({
  name: "checkDiskSpace() doesn't pass over a permission that is missing",
  permissions: { read: true },
  fn: () => {
    assertThrows(() => checkDiskSpace(".", 1), Deno.errors.NotCapable, "statfs");
  },
});
