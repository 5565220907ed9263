/**
 * Numbers for people.
 *
 * @module
 */
import { format as formatBinary } from "@std/fmt/bytes";
import { format as formatTime } from "@std/fmt/duration";

/** `497903616` bytes are `474.8 MiB`. */
export function formatBytes(bytes: number): string {
  return formatBinary(bytes, { binary: true, minimumFractionDigits: 1, maximumFractionDigits: 1 });
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
