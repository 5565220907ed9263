/**
 * Memory that tensors lie in: bytes that TypeScript owns, or a range of addresses on a GPU, which only its library may
 * follow. Both are cut with `subarray`, and know where they lie in what was allocated.
 *
 * @module
 */
import { constrainedMemory } from "node:process";

/** What to do where there is too little memory. */
export const MEMORY_HINT = "fewer or shorter sequences at a time, or a smaller model, need less";

/** What all parts of an allocation on a device have in common: when it is gone, the memory is freed. */
export interface Allocation {
  /** Whether that has been done already. */
  freed: boolean;
}

/** A range of device memory. */
export interface DeviceMemory {
  readonly owner: Allocation;
  /** Of the first byte. */
  readonly address: bigint;
  /** Bytes from the start of the allocation. */
  readonly byteOffset: number;
  readonly byteLength: number;
  /** Bytes `begin` … `end` of it. */
  subarray(begin: number, end: number): DeviceMemory;
}

/** See the module. */
export type Memory = Uint8Array<ArrayBuffer> | DeviceMemory;

/** An allocation of `byteLength` bytes at `address`, or the part of one that starts `byteOffset` bytes into it. */
export function deviceMemory(
  owner: Allocation,
  address: bigint,
  byteLength: number,
  byteOffset = 0,
): DeviceMemory {
  return {
    owner,
    address,
    byteOffset,
    byteLength,
    subarray: (begin, end) => deviceMemory(owner, address + BigInt(begin), end - begin, byteOffset + begin),
  };
}

/** Bytes of the host's memory that are free now: a container's limit counts, past which the system ends the process. */
export function freeHostMemory(): number {
  return withinLimit(Deno.systemMemoryInfo().available, constrainedMemory(), Deno.memoryUsage().rss);
}

/**
 * What is left of free memory under a limit of which some is used.
 *
 * @param limit 0 or undefined: none is known
 */
export function withinLimit(free: number, limit: number | undefined, used: number): number {
  return limit ? Math.max(0, Math.min(free, limit - used)) : free;
}

/** Whether memory is the host's. */
export function isHostMemory(memory: Memory): memory is Uint8Array<ArrayBuffer> {
  return memory instanceof Uint8Array;
}
