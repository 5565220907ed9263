import { assertEquals, assertStringIncludes } from "@std/assert";
import { changes, compare } from "../../bench/baseline.ts";
import { EAGER, LLMTS } from "../../bench/cases.ts";
import { goalRows } from "../../bench/goals.ts";
import { limitsOf, mergePeaks } from "../../bench/peaks.ts";
import { caseSection, opsSection, report } from "../../bench/report.ts";
import { table } from "../../bench/table.ts";
import { contestant, fp32Steps, PEAKS, run, threads } from "./example.ts";

Deno.test("table() aligns columns and escapes bars", () => {
  assertEquals(table(["a", "long head"], [["1–2", "x|y"], ["", "z"]]), [
    "| a   | long head |",
    "| --- | --------- |",
    "| 1–2 | x\\|y      |",
    "|     | z         |",
  ]);
});

Deno.test("limitsOf() takes the best peak that a precision can use", () => {
  assertEquals(limitsOf(PEAKS, "fp32"), { flops: 1e12, read: 8e10, moved: 1e11 });
  assertEquals(limitsOf(PEAKS, "bf16"), { flops: 2e12, read: 8e10, moved: 1e11 });
  const tiles = { ...PEAKS, amx_bf16: { one: [3000], all: [6000] } };
  assertEquals(limitsOf(tiles, "bf16").flops, 6e12);
  assertEquals(limitsOf(tiles, "fp32").flops, 1e12);
});

Deno.test("mergePeaks() keeps the samples of both measurements", () => {
  const merged = mergePeaks(PEAKS, { ...PEAKS, read: { one: [55], all: [120] } });
  assertEquals(merged.read, { one: [50, 55], all: [80, 120] });
  assertEquals([merged.threads, merged.amx_bf16], [2, null]);
  assertEquals(limitsOf(merged, "fp32"), { flops: 1e12, read: 1.2e11, moved: 1.2e11 });
});

Deno.test("goalRows() compares with the goals and names the bound", () => {
  const [speed, memory, two] = goalRows(run(fp32Steps(), threads(190, 100)));
  assertEquals(speed, {
    work: "Steps",
    goal: `1.6× ${EAGER}`,
    reached: "2.00× (2.00–2.00)",
    met: true,
    bound: `floor 400 ms, 2.50× ${EAGER}; reached 80 % of it`,
    above: ["matmul N=1 C=2 OC=3, 100 of 500 ms"],
  });
  assertEquals([memory!.goal, memory!.reached, memory!.met], ["2.2 GiB", "2.00 GiB", true]);
  assertEquals([two!.goal, two!.reached, two!.met], ["1.8×", "1.90× (1.90–1.90)", true]);
  assertEquals(two!.bound, "this machine's own: fma_fp32 1.90×, read 1.60×, update 1.67×");
});

Deno.test("goalRows() says what is missed and what was not measured", () => {
  const [speed] = goalRows(run(fp32Steps(1.5)));
  assertEquals([speed!.reached, speed!.met], ["1.33× (1.33–1.33)", false]);
  assertEquals(goalRows(run(threads(150, 100)))[0]!.met, false);
  const alone = fp32Steps();
  const [unmeasured] = goalRows(run({ ...alone, contestants: alone.contestants.slice(0, 1) }));
  assertEquals([unmeasured!.reached, unmeasured!.met], ["not measured", undefined]);
  assertEquals(goalRows(run()), []);
});

Deno.test("goalRows() takes the small model's arithmetic off", () => {
  const small = (milliseconds: number) =>
    goalRows(run({
      id: "small",
      title: "Small",
      precision: "fp32",
      contestants: [contestant(LLMTS, [[milliseconds]])],
    }))[0]!;
  assertEquals([small(0.5).met, small(2).met], [true, false]);
});

Deno.test("caseSection() has a column for each that was measured, and the reasons of the others", () => {
  const lines = caseSection(fp32Steps());
  assertStringIncludes(
    lines.join("\n"),
    "| total, ms   | 500 (490–510) | 1000 (980–1020) | 2.00× (2.00–2.00) |",
  );
  assertStringIncludes(lines.join("\n"), "| peak memory | 2.00 GiB      | 3.00 GiB        | 1.50×");
  assertEquals(lines.at(-2), "PyTorch compiled was not measured: no C++ compiler");
});

Deno.test("opsSection() gives rates and the share of the floor", () => {
  const lines = opsSection(fp32Steps(), PEAKS);
  const cells = lines.findLast((line) => line.includes("matmul"))!.split("|").map((cell) => cell.trim());
  assertEquals(cells.slice(1, -1), ["matmul N=1 C=2 OC=3", "12", "500 (490–510)", "800", "2", "400", "80 %"]);
  assertEquals(opsSection(threads(2, 1), PEAKS), []);
});

Deno.test("report() has the machine, the peaks, the goals and every case", () => {
  const text = report(run(fp32Steps(), threads(190, 100)));
  for (
    const part of [
      "Some CPU",
      "950 (900–1000)",
      "not here",
      "## Goals",
      "## Steps",
      "## Threads",
      "## Ops: Steps",
    ]
  ) {
    assertStringIncludes(text, part);
  }
});

Deno.test("report() says when the machine was busy", () => {
  const busy = (load: string): boolean =>
    report({ ...run(), machine: { "Load before": load } }).includes("those of a busy machine");
  assertEquals([busy("0.10"), busy("2.00"), report(run()).includes("busy")], [false, true, false]);
});

Deno.test("changes() pairs what both runs have, and compare() marks what is beyond noise", () => {
  const [before, now] = [run(fp32Steps()), run(fp32Steps(0.5), threads(2, 1))];
  assertEquals(changes(now, before).map(({ work, ratio }) => [work, ratio.value]), [
    [`step-fp32-T64: ${LLMTS}`, 2],
    ["step-fp32-T64: matmul N=1 C=2 OC=3", 2],
    [`step-fp32-T64: ${EAGER}`, 1],
  ]);
  const text = compare(now, before);
  const row = (name: string): string => text.split("\n").find((line) => line.includes(name))!;
  assertStringIncludes(row(LLMTS), "| faster");
  assertEquals(/faster|slower/.test(row(EAGER)), false);
  assertStringIncludes(compare(before, now), "| slower");
  assertStringIncludes(compare(run(), before), "The two runs have no work in common.");
  assertStringIncludes(
    compare({ ...now, machine: { Processor: "Another" } }, before),
    'Processor was "Some CPU", is "Another".',
  );
});
