/**
 * How much arithmetic training needs, and how much of it the machine can do: their ratio is the model FLOPs utilisation, MFU
 * (Chowdhery et al. 2022, PaLM, appendix B).
 *
 * @module
 */
import type { Device } from "../ffi/device.ts";
import { rows, type Tensor } from "../ffi/tensor.ts";
import type { GPT2Config } from "./config.ts";
import type { Precision } from "./model.ts";
import { parameterCount } from "./parameters.ts";

/**
 * Floating-point operations that training needs for a token, at sequences of T: `6·N + 6·L·C·T`, as llm.c's
 * gpt2_estimate_mfu (train_gpt2.cu), so that MFUs compare.
 *
 * Each of the N parameters is multiplied and added once forward and twice backward (Kaplan et al. 2020, section 2.1;
 * Hoffmann et al. 2022, Chinchilla, appendix F): 6. N has all parameters, as llm.c's: wpe, the vectors and padding too,
 * which a product never sees; at 124M they are 0.8 %. Queries meet keys, and weights meet values, in products of T·C a
 * token and layer, 12·L·C·T in PaLM; causal attention needs half of them. What recomputation repeats is not counted.
 */
export function trainingFlops(config: GPT2Config, T: number): number {
  const { L, C } = config;
  return 6 * parameterCount(config) + 6 * L * C * T;
}

/** Largest product that is tried: (4096,4096) · (4096,4096). */
const LARGEST = 4096;
/** A product is large enough when it takes so many milliseconds, however many processors share it. */
const LONG_ENOUGH = 4;
/** For how many milliseconds products are then timed. */
const BUDGET = 100;

/**
 * Floating-point operations a second that a device reaches in a large square matmul, the best of several: what MFU is
 * relative to. Takes about 0.15 s.
 *
 * @param now the time in milliseconds
 * @throws {LlmtsError} the device fails, or has no memory for the matrices
 */
export function measurePeak(
  device: Device,
  precision: Precision,
  now: () => number = () => performance.now(),
): number {
  using memory = device.temporary();
  const probe = memory.tensor("fp32", [1]);
  /** Milliseconds that `count` calls take: reading waits for what was asked of the device before. */
  const time = (call: () => void, count: number): number => {
    const start = now();
    for (let i = 0; i < count; i++) call();
    device.read(probe);
    return now() - start;
  };

  let n = 128;
  let call = product(memory, precision, n);
  time(call, 1); // warms up, here and below: the first call touches memory and allocates scratch
  let best = time(call, 1);
  while (best < LONG_ENOUGH && n < LARGEST) {
    n *= 2;
    call = product(memory, precision, n);
    time(call, 1);
    best = time(call, 1);
  }

  // On a GPU a call is short beside the wait for it, so that several share one.
  const count = Math.max(1, Math.ceil(LONG_ENOUGH / best));
  const end = now() + BUDGET;
  while (now() < end) best = Math.min(best, time(call, count) / count);
  return 2 * n ** 3 * 1000 / best;
}

/** A product of random (n,n) matrices: zeros would cost a GPU less power, and make it faster than it is. */
function product(device: Device, precision: Precision, n: number): () => void {
  const [out, x, weight] = [0, 1, 2].map(() => device.tensor(precision, [n, n])) as [Tensor, Tensor, Tensor];
  const height = Math.min(n, 64); // so many random rows are repeated: making them all would take longer than the products
  const random = device.tensor("fp32", [height, n]);
  for (const matrix of [x, weight]) {
    device.write(random, Float32Array.from({ length: height * n }, () => Math.random() - 0.5));
    for (let row = 0; row < n; row += height) device.ops.convert(rows(matrix, row, row + height), random);
  }
  return () => device.ops.matmul(out, x, weight, null);
}
