/**
 * Times each op while a model runs as always.
 *
 * @module
 */
import type { Device } from "../ffi/device.ts";
import type { Ops } from "../ffi/ops.ts";
import { type Cost, costOf, type OpName } from "./costs.ts";

/** All calls of an op with the same shapes in one repetition: a training step, a generated token. */
export interface OpTimes extends Cost {
  /** How many there are. `flops`, `read` and `written` are those of all of them. */
  readonly calls: number;
  /** Milliseconds of all of them, in each counted repetition. */
  readonly times: readonly number[];
}

/** See the module. */
export interface Recorder {
  /** The device, whose ops are timed. */
  readonly device: Device;
  /** What was called since the last `take`, which ends a repetition. */
  take(): ReadonlyMap<string, Omit<OpTimes, "times"> & { milliseconds: number }>;
}

/** Wraps a device that computes while it is called: the CPU. */
export function recordOps(device: Device): Recorder {
  let taken = new Map<string, Omit<OpTimes, "times"> & { milliseconds: number }>();
  const timed = Object.fromEntries(
    (Object.keys(device.ops) as OpName[]).map((name) => {
      const op = device.ops[name] as (...args: unknown[]) => unknown;
      return [name, (...args: unknown[]): unknown => {
        const start = performance.now();
        const result = op(...args);
        const milliseconds = performance.now() - start;
        const cost = costOf(name, args as Parameters<Ops[OpName]>);
        const { calls, flops, read, written, milliseconds: before } = taken.get(cost.label) ??
          { calls: 0, flops: 0, read: 0, written: 0, milliseconds: 0 };
        taken.set(cost.label, {
          label: cost.label,
          calls: calls + 1,
          flops: flops + cost.flops,
          read: read + cost.read,
          written: written + cost.written,
          milliseconds: before + milliseconds,
        });
        return result;
      }];
    }),
  ) as unknown as Ops;
  const recorded: Device = { ...device, ops: timed, host: device.host };
  return {
    device: recorded,
    take() {
      const result = taken;
      taken = new Map();
      return result;
    },
  };
}

/** Repetitions side by side, in the order in which the ops were first called. */
export function mergeTakes(takes: readonly ReturnType<Recorder["take"]>[]): OpTimes[] {
  return [...takes[0]?.values() ?? []].map(({ milliseconds: _, ...op }) => ({
    ...op,
    times: takes.map((take) => take.get(op.label)?.milliseconds ?? 0),
  }));
}
