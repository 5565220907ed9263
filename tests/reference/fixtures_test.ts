import { assert, assertEquals, assertLess } from "@std/assert";
import { join } from "@std/path";
import { fixturePath, readCases } from "../fixtures.ts";
import { inFolder } from "../folder.ts";
import { needsPython, runPython } from "./python.ts";

const SCRIPT = join(import.meta.dirname!, "../../dev/reference/fixtures.py");

/** Names of the files in a folder and the folders in it, sorted. */
function filesIn(folder: string, prefix = ""): string[] {
  return [...Deno.readDirSync(join(folder, prefix))].flatMap((entry) => {
    const name = join(prefix, entry.name);
    return entry.isDirectory ? filesIn(folder, name) : [name];
  }).sort();
}

/** What fresh numbers may differ by, as a share of a tensor's largest: the same arithmetic in float64, rounded to fp32. */
const TOLERANCE = 1e-6;
/** Models start from torch.normal_, whose last bits depend on the processor's vector instructions. */
const MODEL_TOLERANCE = 1e-5;

function assertClose(fresh: Float32Array, committed: Float32Array, tolerance: number, what: string): void {
  assertEquals(fresh.length, committed.length, what);
  const largest = committed.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
  fresh.forEach((value, i) => {
    const difference = Math.abs(value - committed[i]!);
    assert(difference <= tolerance * largest, `${what}: number ${i} is ${value}, committed ${committed[i]}`);
  });
}

/** Compares one safetensors file of cases. */
function assertSameCases(fresh: string, committed: string, tolerance: number): void {
  const [freshCases, committedCases] = [readCases(fresh), readCases(committed)];
  assertEquals(freshCases.map((c) => [c.name, c.dims]), committedCases.map((c) => [c.name, c.dims]));
  committedCases.forEach((expected, i) => {
    const actual = freshCases[i]!;
    assertEquals(actual.tensors, expected.tensors);
    for (const name of expected.tensors) {
      const what = `${committed}: ${expected.name}/${name}`;
      assertEquals(actual.shape(name), expected.shape(name), what);
      assertEquals(actual.dtype(name), expected.dtype(name), what);
      if (expected.dtype(name) === "I32") assertEquals(actual.ints(name), expected.ints(name), what);
      else assertClose(actual.floats(name), expected.floats(name), tolerance, what);
    }
  });
}

/** Compares files of whole numbers, then floats to the end. */
function assertSameBinary(fresh: string, committed: string, whole: number): void {
  const [a, b] = [Deno.readFileSync(fresh).buffer, Deno.readFileSync(committed).buffer];
  assertEquals(new Int32Array(a, 0, whole), new Int32Array(b, 0, whole), committed);
  assertClose(new Float32Array(a, 4 * whole), new Float32Array(b, 4 * whole), MODEL_TOLERANCE, committed);
}

interface Losses {
  readonly losses: Readonly<Record<"matrices" | "all", readonly number[]>>;
}

function assertSameLosses(fresh: string, committed: string): void {
  const [{ losses: a, ...hyperA }, { losses: b, ...hyperB }] = [fresh, committed].map((path) =>
    JSON.parse(Deno.readTextFileSync(path)) as Losses
  ) as [Losses, Losses];
  assertEquals(hyperA, hyperB);
  for (const decay of ["matrices", "all"] as const) {
    assertClose(Float32Array.from(a[decay]), Float32Array.from(b[decay]), MODEL_TOLERANCE, decay);
  }
}

Deno.test("fixtures are well under a megabyte", () => {
  const folder = fixturePath("");
  const bytes = filesIn(folder).reduce((sum, name) => sum + Deno.statSync(join(folder, name)).size, 0);
  assertLess(bytes, 750_000);
});

Deno.test({
  ...needsPython("fixtures.py gives the committed fixtures again", ["torch", "numpy", "safetensors"]),
  fn: () =>
    inFolder((folder) => {
      runPython([SCRIPT, "--out", folder]);
      const names = filesIn(folder);
      assertEquals(names, filesIn(fixturePath("")));
      for (const name of names) {
        const [fresh, committed] = [join(folder, name), fixturePath(name)];
        if (name === "models/odd.bin") assertSameBinary(fresh, committed, 256);
        else if (name === "models/odd_debug_state.bin") assertSameBinary(fresh, committed, 256 + 2 * 2 * 31);
        else if (name === "models/odd_debug_state.json") assertSameLosses(fresh, committed);
        else assertSameCases(fresh, committed, name.startsWith("models/") ? MODEL_TOLERANCE : TOLERANCE);
      }
    }),
});
