/**
 * Which values a flag takes, from the command line and from JSON alike.
 *
 * @module
 */
import type { BooleanFlag, Flag, NumberFlag } from "./flags.ts";

/** The value of the flag that an argument's text spells, undefined where it spells none. */
export function valueOfText(flag: Exclude<Flag, BooleanFlag>, text: string): string | number | undefined {
  switch (flag.type) {
    case "integer":
    case "number":
      return parseNumber(flag, text);
    case "choice":
      return flag.choices.includes(text) ? text : undefined;
    case "path":
    case "config":
      return text === "" || text.includes("\0") ? undefined : text; // no system has such a path
    case "string":
      return text;
  }
}

/** The number that the whole text spells and the flag allows, else undefined. */
function parseNumber(flag: NumberFlag, text: string): number | undefined {
  const pattern = flag.type === "integer" ? /^[+-]?\d+$/ : /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;
  const value = pattern.test(text) ? Number(text) : NaN;
  return allows(flag, value) ? value : undefined;
}

/** The value of the flag that a JSON value is, undefined where it is none: numbers are numbers there, not text. */
export function valueOfJson(flag: Flag, value: unknown): string | number | boolean | undefined {
  switch (flag.type) {
    case "boolean":
      return typeof value === "boolean" ? value : undefined;
    case "integer":
    case "number":
      return typeof value === "number" && allows(flag, value) ? value : undefined;
    default:
      return typeof value === "string" ? valueOfText(flag, value) : undefined;
  }
}

function allows(
  { type, min = -Infinity, above = -Infinity, max = Infinity }: NumberFlag,
  value: number,
): boolean {
  const known = type === "integer" ? Number.isSafeInteger(value) : Number.isFinite(value);
  return known && value >= min && value > above && value <= max;
}

/** What a flag expects, in words. */
export function expectation(flag: Flag): string {
  switch (flag.type) {
    case "boolean":
      return "true or false";
    case "integer":
      return withBounds("a whole number", flag);
    case "number":
      return withBounds("a number", flag);
    case "choice":
      return `one of ${flag.choices.join(", ")}`;
    case "path":
    case "config":
      return "a path";
    case "string":
      return "text";
  }
}

function withBounds(kind: string, { min, above, max }: NumberFlag): string {
  if (min !== undefined && max !== undefined) return `${kind} from ${min} to ${max}`;
  const bounds = [
    ...(min === undefined ? [] : [`of at least ${min}`]),
    ...(above === undefined ? [] : [`above ${above}`]),
    ...(max === undefined ? [] : [`of at most ${max}`]),
  ];
  return [kind, ...(bounds.length === 0 ? [] : [bounds.join(" and ")])].join(" ");
}
