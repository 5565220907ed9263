// The loader over several shards, shuffled or not, in one process or several, and its state.

import { assert, assertEquals, assertNotEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { FileError, LlmtsError } from "../../src/errors.ts";
import { DataLoader, type DataLoaderOptions, type LoaderState } from "../../src/io/loader.ts";
import { openShards, type Shards } from "../../src/io/shards.ts";
import { writeTokenFile } from "../../src/io/tokens.ts";
import { Random } from "../../src/random.ts";
import { inFolder } from "../folder.ts";

const [B, T] = [2, 3];

/** Runs with shards of so many tokens; shard k holds 1000k, 1000k + 1, … */
async function withShards(counts: readonly number[], run: (shards: Shards) => void): Promise<void> {
  await inFolder(async (folder) => {
    const paths = counts.map((_, k) => join(folder, `${k}.bin`));
    for (const [k, count] of counts.entries()) {
      await writeTokenFile(
        paths[k]!,
        50257,
        (write) => write(Array.from({ length: count }, (_, i) => 1000 * k + i)),
      );
    }
    using shards = openShards(paths, 50257);
    run(shards);
  });
}

/** The first ids of so many batches: where each was read. */
function starts(loader: DataLoader, count: number): number[] {
  return Array.from({ length: count }, () => loader.next().inputs[0]!);
}

/** llm.c's order (llmc/dataloader.h), spelled out: arrays that are shuffled in place, swap by swap. */
function* llmcOrder(
  counts: readonly number[],
  { seed, rank, world }: Required<Omit<DataLoaderOptions, "shuffle">>,
) {
  const random = new Random(seed + rank);
  const stride = B * T * world;
  const shuffle = (order: number[]): void => {
    for (let i = order.length - 1; i > 0; i--) {
      const j = random.randint32() % (i + 1);
      [order[i], order[j]] = [order[j]!, order[i]!];
    }
  };
  const shards = counts.map((_, shard) => shard);
  while (true) {
    shuffle(shards);
    for (const shard of shards) {
      const samples = Array.from(
        { length: Math.floor((counts[shard]! - 1) / stride) },
        (_, sample) => sample,
      );
      shuffle(samples);
      for (const sample of samples) yield 1000 * shard + sample * stride + rank * B * T;
    }
  }
}

const COUNTS = [140, 61, 97];

Deno.test("DataLoader gives every kept token of three shards once in an epoch (A-11)", async () => {
  for (const shuffle of [false, true]) {
    await withShards(COUNTS, (shards) => {
      const loader = new DataLoader(shards, B, T, { shuffle });
      assertEquals(loader.batches, 23 + 10 + 16);
      const kept = COUNTS.flatMap((count, k) =>
        Array.from({ length: Math.floor((count - 1) / 6) * 6 }, (_, i) => 1000 * k + i)
      );
      for (let epoch = 0; epoch < 3; epoch++) {
        const seen: number[] = [];
        for (let i = 0; i < loader.batches; i++) {
          assertEquals(loader.epoch, epoch);
          const { inputs, targets } = loader.next();
          assertEquals([...targets], [...inputs].map((id) => id + 1));
          seen.push(...inputs);
        }
        if (!shuffle) assertEquals(seen, kept);
        else assertNotEquals(seen, kept);
        assertEquals(seen.sort((a, b) => a - b), kept);
      }
      assertEquals(loader.epoch, 3);
    });
  }
});

Deno.test("DataLoader shuffles in llm.c's order, over epochs and in each process", async () => {
  for (const [seed, rank, world] of [[42, 0, 1], [42, 0, 2], [42, 1, 2], [7, 2, 3]] as const) {
    await withShards(COUNTS, (shards) => {
      const loader = new DataLoader(shards, B, T, { shuffle: true, seed, rank, world });
      const expected = llmcOrder(COUNTS, { seed, rank, world });
      for (let i = 0; i < 4 * loader.batches; i++) {
        assertEquals(loader.next().inputs[0], expected.next().value, `rank ${rank} of ${world}, batch ${i}`);
      }
    });
  }
});

Deno.test("DataLoader draws another order in each epoch, and for each seed (A-49)", async () => {
  await withShards(COUNTS, (shards) => {
    const loader = new DataLoader(shards, B, T, { shuffle: true });
    const epochs = [0, 1, 2].map(() => starts(loader, loader.batches));
    assertNotEquals(epochs[0], epochs[1]);
    assertNotEquals(epochs[1], epochs[2]);
    const again = new DataLoader(shards, B, T, { shuffle: true });
    assertEquals(starts(again, again.batches), epochs[0]);
    const other = new DataLoader(shards, B, T, { shuffle: true, seed: 43 });
    assertNotEquals(starts(other, other.batches), epochs[0]);
  });
});

Deno.test("DataLoader shares every sample between the processes (A-04)", async () => {
  await withShards([100, 50], (shards) => {
    const world = 4; // 24 tokens a sample: 4 and 2 samples
    const loaders = [0, 1, 2, 3].map((rank) => new DataLoader(shards, B, T, { rank, world }));
    const seen: number[] = [];
    for (let i = 0; i < 6; i++) for (const loader of loaders) seen.push(...loader.next().inputs);
    const kept = [96, 48].flatMap((count, k) => Array.from({ length: count }, (_, i) => 1000 * k + i));
    assertEquals(seen, kept);
    assertEquals(loaders.map((loader) => [loader.batches, loader.epoch]), new Array(4).fill([6, 1]));
  });
});

Deno.test("DataLoader names the shard that is too small for all processes", async () => {
  await withShards([25, 24], (shards) => {
    const error = assertThrows(() => new DataLoader(shards, B, T, { rank: 0, world: 4 }), FileError);
    assertEquals(
      error.message,
      `"${shards.paths[1]}": has 24 tokens, a batch of 2 × 3 in 4 processes needs 25 (B·T·processes + 1)`,
    );
    assertEquals(error.hint, "lower --batch-size or --seq-len, or leave the file out");
  });
});

Deno.test("DataLoader.state goes on bit for bit, wherever it was taken (A-10)", async () => {
  await withShards(COUNTS, (shards) => {
    for (const shuffle of [false, true]) {
      const total = 2 * new DataLoader(shards, B, T).batches + 3;
      for (let before = 0; before <= total; before++) {
        const loader = new DataLoader(shards, B, T, { shuffle });
        starts(loader, before);
        const { state, epoch } = loader;
        const expected = starts(loader, 60); // changes nothing in the state taken before
        const resumed = new DataLoader(shards, B, T, { shuffle });
        starts(resumed, 5);
        resumed.state = state;
        assertEquals(resumed.epoch, epoch);
        assertEquals(resumed.state, state);
        assertEquals(starts(resumed, 60), expected, `shuffle ${shuffle}, after ${before} batches`);
        assertEquals(resumed.state, loader.state);
      }
    }
  });
});

Deno.test("DataLoader.reset() repeats the first batches, so that a step of several can be overfitted (A-12)", async () => {
  await withShards(COUNTS, (shards) => {
    for (const shuffle of [false, true]) {
      const loader = new DataLoader(shards, B, T, { shuffle });
      const first = starts(loader, 3);
      assertEquals(new Set(first).size, 3);
      for (let step = 0; step < 3; step++) {
        loader.reset();
        assertEquals(starts(loader, 3), first);
      }
    }
  });
});

Deno.test("DataLoader.state refuses the state of other data or another shape (A-30)", async () => {
  await withShards(COUNTS, (shards) => {
    const shuffled = new DataLoader(shards, B, T, { shuffle: true });
    const { state } = shuffled;
    const order = state.shuffle!;
    const cases: [loader: DataLoader, state: LoaderState, message: string][] = [
      [new DataLoader(shards, B, T), state, "it shuffled, and now does not"],
      [shuffled, { ...state, shuffle: null }, "it did not shuffle, and now does"],
      [new DataLoader(shards, 1, T, { shuffle: true }), state, "the saved order is of"],
      [shuffled, { ...state, shuffle: { ...order, shards: Int32Array.of(0, 1) } }, "of 2 files, there are 3"],
      [shuffled, { ...state, shuffle: { ...order, shards: Int32Array.of(0, 1, 1) } }, "the saved order"],
      [
        new DataLoader(shards, B, T),
        { shard: 3, sample: 0, epoch: 0, shuffle: null },
        "in file 4, there are 3",
      ],
      [
        new DataLoader(shards, B, T),
        { shard: 1, sample: 10, epoch: 0, shuffle: null },
        "at batch 11, the file has 10",
      ],
      [new DataLoader(shards, B, T), { shard: 0, sample: 0.5, epoch: 0, shuffle: null }, "whole numbers"],
      [new DataLoader(shards, B, T), { shard: 0, sample: 0, epoch: -1, shuffle: null }, "whole numbers"],
    ];
    for (const [loader, saved, message] of cases) {
      const before = loader.state;
      const error = assertThrows(() => loader.state = saved, LlmtsError);
      assertStringIncludes(error.message, message);
      assertEquals(loader.state, before);
    }
    assert(state.sample === -1);
  });
});
