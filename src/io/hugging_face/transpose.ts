/**
 * Transposing between (in, out), as Hugging Face's Conv1D layers have it, and (out, in), as we do.
 *
 * @module
 */

/** Side of a square that stays in the first-level cache. */
const TILE = 32;

/**
 * Writes the transpose of `source` (rows, columns) into the columns from `first` on of `target` (columns, width), so that
 * a large matrix can come in blocks of rows. Bits are moved, not numbers: a NaN keeps its payload.
 */
export function transpose(
  target: Float32Array,
  source: Float32Array,
  { columns, width, first = 0 }: { columns: number; width: number; first?: number },
): void {
  const to = new Uint32Array(target.buffer, target.byteOffset, target.length);
  const from = new Uint32Array(source.buffer, source.byteOffset, source.length);
  const rows = source.length / columns;
  for (let r0 = 0; r0 < rows; r0 += TILE) {
    const r1 = Math.min(r0 + TILE, rows);
    for (let c0 = 0; c0 < columns; c0 += TILE) {
      const c1 = Math.min(c0 + TILE, columns);
      for (let c = c0; c < c1; c++) {
        for (let r = r0; r < r1; r++) to[c * width + first + r] = from[r * columns + c]!;
      }
    }
  }
}
