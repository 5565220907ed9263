/**
 * bfloat16: the upper half of an fp32. Widening is exact, narrowing rounds to the nearest, ties to even, as hardware does.
 *
 * @module
 */

/** Widens `source` into `target`, of the same length. */
export function bf16ToFp32(target: Float32Array, source: Uint16Array): void {
  const bits = new Uint32Array(target.buffer, target.byteOffset, target.length);
  for (let i = 0; i < source.length; i++) bits[i] = source[i]! << 16;
}

/** Narrows `source` into `target`, of the same length. NaN stays NaN. */
export function fp32ToBf16(target: Uint16Array, source: Float32Array): void {
  const bits = new Uint32Array(source.buffer, source.byteOffset, source.length);
  for (let i = 0; i < bits.length; i++) {
    const value = bits[i]!;
    const isNaN = (value & 0x7fffffff) > 0x7f800000;
    target[i] = isNaN ? (value >>> 16) | 0x40 : (value + 0x7fff + ((value >>> 16) & 1)) >>> 16;
  }
}
