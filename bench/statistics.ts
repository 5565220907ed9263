/**
 * Medians and spreads of measured times, and ratios of them.
 *
 * @module
 */

/** The middle of the values, or the mean of the two in the middle. */
export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** The value that a share of all lies below, between two of them by linear interpolation. At least one value. */
export function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  const place = share * (sorted.length - 1);
  const [below, above] = [sorted[Math.floor(place)]!, sorted[Math.ceil(place)]!];
  return below + (above - below) * (place - Math.floor(place));
}

/** A number in words that three significant digits are enough for: `655`, `6.55`, `0.065`. */
export function rounded(value: number): string {
  return value.toFixed(value >= 99.95 ? 0 : value >= 9.995 ? 1 : value >= 0.0995 ? 2 : 3);
}

/** Median with least and greatest: `655 (650–671)`. */
export function spread(values: readonly number[]): string {
  const [least, greatest] = [Math.min(...values), Math.max(...values)];
  return `${rounded(median(values))} (${rounded(least)}–${rounded(greatest)})`;
}

/** A ratio of two medians and the range it would have from quartile to quartile. */
export interface Ratio {
  readonly value: number;
  readonly low: number;
  readonly high: number;
}

/** Of two lists of times that were not taken in pairs. */
export function ratioOf(above: readonly number[], below: readonly number[]): Ratio {
  return {
    value: median(above) / median(below),
    low: quantile(above, 0.25) / quantile(below, 0.75),
    high: quantile(above, 0.75) / quantile(below, 0.25),
  };
}

/** Of two lists taken in turn, round by round: what slowed a whole round down slowed both, and cancels out. */
export function pairedRatio(
  above: readonly (readonly number[])[],
  below: readonly (readonly number[])[],
): Ratio {
  const ratios = above.slice(0, below.length).map((times, round) => median(times) / median(below[round]!));
  return { value: median(ratios), low: Math.min(...ratios), high: Math.max(...ratios) };
}

/** Differences below this are the machine's, whatever the spread says: builds and runs differ by so much. */
const SMALLEST_CHANGE = 0.03;

/** Whether a ratio is beyond what repeating the measurement would give: its whole range is away from 1, and not by little. */
export function beyondNoise({ value, low, high }: Ratio): boolean {
  return (low > 1 || high < 1) && Math.abs(value - 1) > SMALLEST_CHANGE;
}
