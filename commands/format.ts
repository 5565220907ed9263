/**
 * Numbers for people.
 *
 * @module
 */
import { format as formatBinary } from "@std/fmt/bytes";
import { format as formatTime } from "@std/fmt/duration";

/** `497903616` bytes are `474.8 MiB`. */
export function formatBytes(bytes: number): string {
  const digits = { minimumFractionDigits: 1, maximumFractionDigits: 1 };
  return formatBinary(bytes, { binary: true, locale: "en-US", ...digits }); // else the user's locale: 474,8
}

/** Milliseconds to the second: `1h 2m 5s`. */
export function formatDuration(milliseconds: number): string {
  const seconds = Math.round(milliseconds / 1000);
  return seconds === 0 ? "0s" : formatTime(seconds * 1000, { ignoreZero: true });
}

/** Tokens per second, whole where there are many. */
export function formatRate(tokens: number, milliseconds: number): string {
  const rate = 1000 * tokens / milliseconds;
  return `${rate.toFixed(rate < 10 ? 1 : 0)} tokens/s`;
}

/** `412300000000` FLOP/s are `412.3 GFLOP/s`. */
export function formatUnits(value: number, unit: string): string {
  const prefixes = ["", "k", "M", "G", "T", "P", "E"];
  const power = prefixes.findLastIndex((_, i) => value >= 1000 ** i);
  return `${(value / 1000 ** Math.max(0, power)).toFixed(1)} ${prefixes[Math.max(0, power)]}${unit}`;
}

/** Rows of a label and a text as lines, the texts below each other. */
export function alignRows(rows: readonly (readonly [label: string, text: string])[]): string[] {
  const width = Math.max(...rows.map(([label]) => label.length));
  return rows.map(([label, text]) => `${label.padEnd(width)}  ${text}`);
}
