/**
 * A run of the bench beside an earlier one.
 *
 * @module
 */
import { times } from "./goals.ts";
import { allTimes, type BenchResults, measured } from "./results.ts";
import { beyondNoise, type Ratio, ratioOf, spread } from "./statistics.ts";
import { table } from "./table.ts";

/** One kind of work that both runs measured. */
export interface Change {
  readonly work: string;
  readonly before: readonly number[];
  readonly now: readonly number[];
  /** Times as fast as before. */
  readonly ratio: Ratio;
}

/** Every contestant's total, and every op, that both runs have. */
export function changes(now: BenchResults, before: BenchResults): Change[] {
  return now.cases.flatMap((result) => {
    const earlier = before.cases.find(({ id, title }) => id === result.id && title === result.title);
    return result.contestants.flatMap(({ name }) => {
      const [mine, old] = [measured(result, name), measured(earlier, name)];
      if (mine === undefined || old === undefined) return [];
      const ops = (mine.ops ?? []).flatMap(({ label, times }) => {
        const op = old.ops?.find((op) => op.label === label);
        return op === undefined ? [] : [change(`${result.id}: ${label}`, times, op.times)];
      });
      return [change(`${result.id}: ${name}`, allTimes(mine, "total"), allTimes(old, "total")), ...ops];
    });
  });
}

function change(work: string, now: readonly number[], before: readonly number[]): Change {
  return { work, now, before, ratio: ratioOf(before, now) };
}

/** The comparison as Markdown. */
export function compare(now: BenchResults, before: BenchResults): string {
  const rows = changes(now, before).map(({ work, before, now, ratio }) => [
    work,
    spread(before),
    spread(now),
    times(ratio),
    beyondNoise(ratio) ? (ratio.value > 1 ? "faster" : "slower") : "",
  ]);
  const moved = ["Processor", "Memory", "PyTorch"].flatMap((fact) => {
    const [a, b] = [before.machine[fact] ?? "unknown", now.machine[fact] ?? "unknown"];
    return a === b ? [] : [`${fact} was "${a}", is "${b}".`];
  });
  return [
    `## Against ${before.date}, ${before.machine["llmts"] ?? "unknown commit"}`,
    "",
    ...moved,
    ...(rows.length === 0
      ? ["The two runs have no work in common."]
      : table(["Work", "Before, ms", "Now, ms", "Times as fast", "Beyond noise"], rows)),
    "",
    "Ranges are from quartile to quartile; beyond noise is what keeps clear of 1 in all of it and by 3 % at least.",
    "Where PyTorch changed too, the machine did.",
    "",
  ].join("\n");
}
