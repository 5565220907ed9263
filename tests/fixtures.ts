/**
 * The fixtures that dev/reference/fixtures.py writes: inputs and outputs computed by PyTorch. One file per op family,
 * each with named cases; tensors carry the parameter names of kernels/abi.h (dev/reference/ops.py says which).
 *
 * @module
 */
import { join } from "@std/path";
import { openSafetensors } from "../src/io/safetensors.ts";

const FOLDER = join(import.meta.dirname!, "fixtures");

/** One case of a family. */
export interface FixtureCase {
  readonly name: string;
  /** All its dimensions, seeds and other numbers. */
  readonly dims: Readonly<Record<string, number>>;
  /** One of them, which must be there. */
  dim(name: string): number;
  /** Names of its tensors. */
  readonly tensors: readonly string[];
  shape(name: string): readonly number[];
  /** F32 or I32. */
  dtype(name: string): string;
  /** A float tensor's numbers: a fresh copy at each call. */
  floats(name: string): Float32Array<ArrayBuffer>;
  /** A whole-number tensor's numbers (token ids, segments, raw random bits): a fresh copy at each call. */
  ints(name: string): Int32Array<ArrayBuffer>;
}

/** Path of a committed fixture file, `models/odd.bin` say. */
export function fixturePath(name: string): string {
  return join(FOLDER, name);
}

/** All cases of a family: "matmul", "attention", "models/wide" … in the order they were written. */
export function fixtureCases(family: string): FixtureCase[] {
  return readCases(fixturePath(`${family}.safetensors`));
}

/** As {@linkcode fixtureCases}, from any file. */
export function readCases(path: string): FixtureCase[] {
  using file = openSafetensors(path);
  const floats = new Map<string, Float32Array<ArrayBuffer>>();
  const ints = new Map<string, Int32Array<ArrayBuffer>>();
  for (const { name, dtype } of file.entries.values()) {
    if (dtype === "I32") ints.set(name, file.ints(name));
    else floats.set(name, file.floats(name));
  }
  const { entries } = file;
  const cases = JSON.parse(found(file.metadata.get("cases"), "cases", path)) as Record<
    string,
    Record<string, number>
  >;
  return Object.entries(cases).map(([name, dims]) => ({
    name,
    dims,
    tensors: [...entries.keys()].filter((key) => key.startsWith(`${name}/`)).map((key) =>
      key.slice(name.length + 1)
    ),
    dim: (key) => found(dims[key], `dimension "${key}" of case "${name}"`, path),
    shape: (key) => found(entries.get(`${name}/${key}`), `tensor "${key}" of case "${name}"`, path).shape,
    dtype: (key) => found(entries.get(`${name}/${key}`), `tensor "${key}" of case "${name}"`, path).dtype,
    floats: (key) =>
      found(floats.get(`${name}/${key}`), `float tensor "${key}" of case "${name}"`, path).slice(),
    ints: (key) =>
      found(ints.get(`${name}/${key}`), `whole-number tensor "${key}" of case "${name}"`, path).slice(),
  }));
}

function found<T>(value: T | undefined, what: string, path: string): T {
  if (value === undefined) throw new Error(`"${path}" has no ${what}`);
  return value;
}
