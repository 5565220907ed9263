import { assert, assertEquals } from "@std/assert";
import { freeHostMemory, withinLimit } from "../../ffi/memory.ts";

Deno.test("withinLimit() is what a container has left, where that is less than what is free (A-50)", () => {
  const cases: [free: number, limit: number | undefined, used: number, left: number][] = [
    [1000, 600, 100, 500],
    [1000, 600, 700, 0],
    [300, 600, 100, 300],
    [1000, 2 ** 63, 100, 1000], // how systems say that there is no limit
    [1000, 0, 100, 1000], // how Node says that none is known
    [1000, undefined, 100, 1000],
  ];
  for (const [free, limit, used, left] of cases) assertEquals(withinLimit(free, limit, used), left);
});

Deno.test("freeHostMemory() is part of the machine's", () => {
  const { total } = Deno.systemMemoryInfo();
  assert(freeHostMemory() > 0 && freeHostMemory() <= total);
});
