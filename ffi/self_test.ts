/**
 * Whether calls arrive at the kernels as they were made. A Deno that hands on wrong arguments, on one processor or system
 * only, would else show as odd losses or a crash.
 *
 * @module
 */
import { LlmtsError } from "../src/errors.ts";
import type { Device } from "./device.ts";
import { rows } from "./tensor.ts";

/** Enough for V8 to compile the call: arguments then go another way than in the first calls. */
const CALLS = 10_000;

/** The norm of the first two, three and four of these is a whole number. */
const VALUES = [3, 4, 12, 84];
const NORMS = [[2, 5], [3, 13], [4, 85]] as const;

/**
 * Calls a kernel many times with known results.
 *
 * @throws {LlmtsError} it gave another
 */
export function checkCalls(device: Device): void {
  const values = device.tensor("fp32", [VALUES.length]);
  device.write(values, Float32Array.from(VALUES));
  const cases = NORMS.map(([count, norm]) => ({ part: rows(values, 0, count), norm }));
  for (let call = 1; call <= CALLS; call++) {
    const { part, norm } = cases[call % cases.length]!;
    const found = device.ops.globalNorm(part);
    if (found === norm) continue;
    throw new LlmtsError(
      `The kernel library "${device.library.path}" computes wrongly: the norm of ${
        VALUES.slice(0, part.shape[0]).join(", ")
      } is ${norm}, and call ${call} gave ${found}`,
      { hint: "rebuild it with `deno task build`; if that doesn't help, try another version of Deno" },
    );
  }
}
