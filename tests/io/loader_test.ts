import { assertAlmostEquals, assertEquals, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { FileError } from "../../src/errors.ts";
import { DataLoader, openValidation, validationBatches } from "../../src/io/loader.ts";
import { TokenReader, writeTokenFile } from "../../src/io/tokens.ts";
import { inFolder } from "../folder.ts";

const V = 50257;

/** Runs with a reader of a file that holds 0, 1, 2 … */
async function withTokens(count: number, run: (reader: TokenReader) => void | Promise<void>): Promise<void> {
  await inFolder(async (folder) => {
    const path = join(folder, "tokens.bin");
    await writeTokenFile(path, V, (write) => write(Array.from({ length: count }, (_, i) => i)));
    using reader = new TokenReader(path, V);
    await run(reader);
  });
}

Deno.test("DataLoader counts batches from tokens, each with the target after its last input (A-02, A-03)", async (t) => {
  const cases: [B: number, T: number, tokens: number, batches: number][] = [
    [1, 4, 5, 1],
    [1, 4, 6, 1],
    [1, 4, 8, 1],
    [1, 4, 9, 2],
    [1, 64, 129, 2],
    [2, 8, 16 + 1, 1],
    [2, 8, 100, 6],
    [4, 64, 257, 1],
  ];
  for (const [B, T, tokens, batches] of cases) {
    await t.step(
      `${tokens} tokens, B ${B}, T ${T}: ${batches} batches`,
      () => withTokens(tokens, (reader) => assertEquals(new DataLoader(reader, B, T).batches, batches)),
    );
  }
});

Deno.test("DataLoader refuses fewer than B·T + 1 tokens with what it needs (A-01)", async () => {
  for (const [B, T, tokens] of [[1, 64, 40], [1, 64, 64], [2, 8, 16], [1, 1, 1], [1, 1, 0]] as const) {
    await withTokens(tokens, (reader) => {
      const error = assertThrows(
        () => new DataLoader(reader, B, T),
        FileError,
        `"${reader.path}": has ${tokens} tokens, a batch of ${B} × ${T} needs ${B * T + 1} (B·T + 1)`,
      );
      assertEquals(error.hint, "lower --batch-size or --seq-len, or give more data");
    });
  }
});

Deno.test("DataLoader gives every kept token once in an epoch, then wraps round (A-04)", async () => {
  await withTokens(2 * 3 * 4 + 5, (reader) => {
    const loader = new DataLoader(reader, 2, 3);
    assertEquals(loader.batches, 4);
    for (let epoch = 0; epoch < 3; epoch++) {
      const seen: number[] = [];
      for (let k = 0; k < loader.batches; k++) {
        assertEquals(loader.epoch, epoch);
        const { inputs, targets } = loader.next();
        assertEquals([...targets], [...inputs].map((id) => id + 1));
        seen.push(...inputs);
      }
      assertEquals(seen, Array.from({ length: 24 }, (_, i) => i));
    }
    assertEquals(loader.epoch, 3);
  });
});

Deno.test("DataLoader.reset() starts over", async () => {
  await withTokens(13, (reader) => {
    const loader = new DataLoader(reader, 2, 3);
    for (let i = 0; i < 3; i++) loader.next();
    loader.reset();
    assertEquals(loader.epoch, 0);
    assertEquals([...loader.next().inputs], [0, 1, 2, 3, 4, 5]);
  });
});

Deno.test("DataLoader reuses its arrays", async () => {
  await withTokens(13, (reader) => {
    const loader = new DataLoader(reader, 2, 3);
    const { inputs, targets } = loader.next();
    const second = loader.next();
    assertEquals([second.inputs === inputs, second.targets === targets], [true, true]);
  });
});

/** How many positions count. */
function counted(targets: Int32Array): number {
  return targets.filter((target) => target >= 0).length;
}

Deno.test("validationBatches() scores each token after the first once, whatever B is (A-15)", async (t) => {
  // A loss that depends on the token, its target and its place in the window, as a model's does.
  const loss = (input: number, target: number, t: number): number => Math.sin(input + 2 * target + 3 * t);
  const mean = (
    { path }: TokenReader,
    B: number,
    T: number,
    limit: number,
  ): [tokens: number, loss: number] => {
    let sum = 0;
    let tokens = 0;
    for (const { inputs, targets } of validationBatches([path], V, { B, T, limit })) {
      assertEquals([inputs.length, targets.length], [B * T, B * T]);
      targets.forEach((target, i) => {
        if (target < 0) assertEquals([inputs[i], target], [0, -1]);
        else sum += loss(inputs[i]!, target, i % T);
      });
      tokens += counted(targets);
    }
    return [tokens, sum / tokens];
  };
  for (
    const [tokens, limit, scored] of [[100, 0, 99], [97, 0, 96], [100, 30, 30], [3, 64, 2]] as const
  ) {
    await t.step(`${tokens} tokens, limit ${limit}`, () =>
      withTokens(tokens, (reader) => {
        const T = 8;
        const [, expected] = mean(reader, 1, T, limit);
        for (const B of [1, 2, 3, 4, 64]) {
          const [count, found] = mean(reader, B, T, limit);
          assertEquals(count, scored);
          assertAlmostEquals(found, expected, 1e-12);
        }
      }));
  }
});

Deno.test("a file without a token to predict is refused: by openValidation() before it is needed (A-01)", async () => {
  for (const tokens of [0, 1]) {
    await withTokens(tokens, async ({ path }) => {
      const words = `"${path}": has ${tokens} tokens, validation needs at least 2`;
      const batches = validationBatches([path], V, { B: 1, T: 8, limit: 0 });
      assertThrows(() => batches.next(), FileError, words);
      await withTokens(2, (whole) => {
        assertThrows(() => openValidation([whole.path, path], V), FileError, words);
        using shards = openValidation([whole.path], V);
        assertEquals(shards.lengths, [2]);
      });
    });
  }
});

Deno.test("validationBatches() goes through several files, up to the limit in all", async () => {
  await withTokens(12, async (first) => {
    await withTokens(9, (second) => {
      const counts = (limit: number): number[] => {
        const batches = validationBatches([first.path, second.path], V, { B: 2, T: 3, limit });
        return Array.from(batches, ({ targets }) => counted(targets));
      };
      assertEquals(counts(0), [6, 5, 6, 2]);
      assertEquals(counts(13), [6, 5, 2]);
      assertEquals(counts(11), [6, 5]);
    });
  });
});
