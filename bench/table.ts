/**
 * Markdown tables, aligned so that they can be read in a terminal too.
 *
 * @module
 */

/** A table of a head and rows of as many cells. */
export function table(head: readonly string[], rows: readonly (readonly string[])[]): string[] {
  const all = [head, ...rows].map((row) => row.map((cell) => cell.replaceAll("|", "\\|")));
  const widths = head.map((_, column) => Math.max(3, ...all.map((row) => [...row[column]!].length)));
  const line = (row: readonly string[]): string =>
    `| ${row.map((cell, column) => cell + " ".repeat(widths[column]! - [...cell].length)).join(" | ")} |`;
  const [first, ...others] = all;
  return [line(first!), `| ${widths.map((width) => "-".repeat(width)).join(" | ")} |`, ...others.map(line)];
}
