/**
 * Copies of the odd model, its debug state and its losses, to be changed.
 *
 * @module
 */
import { join } from "@std/path";
import { fixturePath } from "./fixtures.ts";

/** Where in the debug state (B 2, T 31, V 65) its parts begin, counted in numbers of four bytes. */
export const STATE_PARTS = {
  tokens: 256,
  targets: 256 + 62,
  logits: 256 + 124,
  loss: 256 + 124 + 62 * 65,
  gradients: 256 + 124 + 62 * 65 + 1,
} as const;

/** Numbers of a file, each in both readings of its four bytes. */
export interface Numbers {
  readonly ints: Int32Array<ArrayBuffer>;
  readonly floats: Float32Array<ArrayBuffer>;
}

/** What to change; a JSON can also be left out. */
export interface OddChanges {
  readonly model?: (numbers: Numbers) => void;
  readonly state?: (numbers: Numbers) => void;
  readonly json?: ((record: Record<string, unknown>) => void) | null;
}

/** Writes odd.bin, odd_debug_state.bin and odd_debug_state.json to a folder; returns their paths. */
export function writeOdd(
  folder: string,
  changes: OddChanges = {},
): { model: string; state: string; json: string } {
  const copy = (name: string, change: (numbers: Numbers) => void = () => {}): string => {
    const bytes = Deno.readFileSync(fixturePath(`models/${name}`));
    change({ ints: new Int32Array(bytes.buffer), floats: new Float32Array(bytes.buffer) });
    const path = join(folder, name);
    Deno.writeFileSync(path, bytes);
    return path;
  };
  const json = join(folder, "odd_debug_state.json");
  if (changes.json !== null) {
    const record = JSON.parse(Deno.readTextFileSync(fixturePath("models/odd_debug_state.json")));
    changes.json?.(record);
    Deno.writeTextFileSync(json, JSON.stringify(record));
  }
  return { model: copy("odd.bin", changes.model), state: copy("odd_debug_state.bin", changes.state), json };
}
