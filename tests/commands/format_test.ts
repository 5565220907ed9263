import { assertEquals } from "@std/assert";
import { alignRows, formatBytes, formatDuration, formatRate, formatUnits } from "../../commands/format.ts";

Deno.test("formatBytes() counts in powers of 1024", () => {
  assertEquals([1024, 497903616, 2 ** 31].map(formatBytes), ["1.0 kiB", "474.8 MiB", "2.0 GiB"]);
});

Deno.test("formatDuration() rounds to seconds", () => {
  assertEquals([0, 499, 1500, 61_000, 3_725_000].map(formatDuration), [
    "0s",
    "0s",
    "2s",
    "1m 1s",
    "1h 2m 5s",
  ]);
});

Deno.test("formatRate() gives a decimal where there are few", () => {
  assertEquals([formatRate(256, 100), formatRate(1, 400)], ["2560 tokens/s", "2.5 tokens/s"]);
});

Deno.test("formatUnits() takes the largest prefix that leaves a whole number before the point", () => {
  assertEquals(
    [0, 0.5, 999, 1000, 750_394_368, 412.3e9, 989e12, 5e21].map((value) => formatUnits(value, "FLOP")),
    [
      "0.0 FLOP",
      "0.5 FLOP",
      "999.0 FLOP",
      "1.0 kFLOP",
      "750.4 MFLOP",
      "412.3 GFLOP",
      "989.0 TFLOP",
      "5000.0 EFLOP",
    ],
  );
});

Deno.test("alignRows() starts texts in one column", () => {
  assertEquals(alignRows([["a", "1"], ["long", "22"], ["", "3"]]), ["a     1", "long  22", "      3"]);
});
