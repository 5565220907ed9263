import { assertEquals } from "@std/assert";
import { formatBytes, formatDuration, formatRate } from "../../commands/format.ts";

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
