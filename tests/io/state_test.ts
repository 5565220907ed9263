import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { openDevice } from "../../ffi/device.ts";
import { float32 } from "../../ffi/tensor.ts";
import { FileError } from "../../src/errors.ts";
import { DataLoader, type LoaderState } from "../../src/io/loader.ts";
import type { Shards } from "../../src/io/shards.ts";
import {
  type OptimizerTensors,
  readState,
  ROUNDING_SEED,
  stateBytes,
  type TrainingState,
  writeState,
} from "../../src/io/state.ts";
import { allocateParameters, parameterCount, type Parameters, TENSORS } from "../../src/parameters.ts";
import { Random } from "../../src/random.ts";
import { inFolder } from "../folder.ts";
import { needsPython, runPython } from "../reference/python.ts";

const device = openDevice();
// Odd sizes, so that the gaps between the tensors of a flat buffer aren't empty.
const CONFIG = { maxT: 5, V: 11, Vp: 13, L: 2, NH: 1, C: 3 };
const COUNT = parameterCount(CONFIG);

function tensors(start: number, master = false): OptimizerTensors {
  const filled = (first: number): Parameters => {
    const parameters = allocateParameters(CONFIG, device, "fp32");
    let next = first;
    for (const { name } of TENSORS) {
      const values = float32(parameters.whole[name]);
      for (let i = 0; i < values.length; i++) values[i] = next++;
    }
    return parameters;
  };
  return {
    device,
    m: filled(start),
    v: filled(start + COUNT),
    master: master ? filled(start + 2 * COUNT) : null,
  };
}

function bits({ m, v, master }: OptimizerTensors): number[][] {
  return [m, v, master].map((parameters) => parameters === null ? [] : [...float32(parameters.flat)]);
}

function shuffled(draws: number): LoaderState {
  const random = new Random(42);
  for (let i = 0; i < draws; i++) random.randint32();
  return {
    shard: 1,
    sample: 2,
    epoch: 0,
    shuffle: { shards: Int32Array.of(2, 0, 1), samples: Int32Array.of(1, 3, 0, 2), random: random.state },
  };
}

const PLAIN: LoaderState = { shard: 0, sample: 7, epoch: 0, shuffle: null };

function state(loader: LoaderState): TrainingState {
  return { step: 40, loader, rounding: 2n ** 63n + 5n, roundingBefore: 2n ** 40n + 1n };
}

Deno.test("readState() gives back what writeState() wrote", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "state.bin");
    for (const master of [false, true]) {
      for (const loader of [PLAIN, { ...PLAIN, sample: -1 }, ...[0, 1, 623, 624, 1000].map(shuffled)]) {
        const written = tensors(0.5, master);
        await writeState(path, written, state(loader), { rank: 1, world: 4 });
        assertEquals(Deno.statSync(path).size, stateBytes(CONFIG, master, loader.shuffle));
        const read = tensors(-5000, master);
        assertEquals(readState(path, read, { rank: 1, world: 4 }), state(loader));
        assertEquals(bits(read), bits(written));
      }
    }
    assertEquals([...Deno.readDirSync(folder)].length, 1);
  });
});

Deno.test("the sample in a state file is the next one, as in llm.c, and its generator is no 0", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "state.bin");
    const stored = async (sample: number): Promise<bigint> => {
      await writeState(path, tensors(0), { ...state({ ...PLAIN, sample }), rounding: ROUNDING_SEED });
      return new DataView(Deno.readFileSync(path).buffer).getBigUint64(4 * 32, true);
    };
    assertEquals([await stored(-1), await stored(0), await stored(9)], [0n, 1n, 10n]);
    assertEquals(ROUNDING_SEED, 13371337n);

    // Twelve tokens are three samples of 1 × 3: after two of them llm.c writes 2, and after the last of the file 3.
    const read = (_: number, position: number, out: Int32Array): void =>
      out.forEach((_, i) => out[i] = position + i);
    for (const [taken, written] of [[0, 0n], [2, 2n], [3, 3n], [4, 1n]] as const) {
      const loader = new DataLoader({ lengths: [12], paths: ["x"], read } as unknown as Shards, 1, 3);
      for (let i = 0; i < taken; i++) loader.next();
      await writeState(path, tensors(0), state(loader.state));
      assertEquals(new DataView(Deno.readFileSync(path).buffer).getBigUint64(4 * 32, true), written);
      const resumed = new DataLoader({ lengths: [12], paths: ["x"], read } as unknown as Shards, 1, 3);
      resumed.state = readState(path, tensors(0)).loader;
      assertEquals([...resumed.next().inputs], [...loader.next().inputs]);
    }
  });
});

Deno.test("readState() leaves master weights unread where none are kept, and misses them where they are", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "state.bin");
    await writeState(path, tensors(0, true), state(shuffled(3)));
    const read = tensors(-5000);
    assertEquals(readState(path, read), state(shuffled(3)));
    assertEquals(bits(read), bits(tensors(0)));
    await writeState(path, tensors(0), state(PLAIN));
    assertThrows(() => readState(path, tensors(0, true)), FileError, "has no master weights");
  });
});

Deno.test("readState() refuses damaged and foreign files, and changes nothing then", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "state.bin");
    await writeState(path, tensors(0), state(shuffled(3)));
    const whole = Deno.readFileSync(path);
    const twister = whole.length - 2520;
    const cases: [change: (bytes: Uint8Array, header: Int32Array) => Uint8Array | void, message: string][] = [
      [() => new Uint8Array(), "is empty, expected a training state"],
      [(_, header) => void (header[0] = 20240326), "is a model checkpoint"],
      [(_, header) => void (header[1] = 2), "is a training state of version 2"],
      [(_, header) => void (header[2] = 8), "is of process 0 of 8, expected process 0 of 1"],
      [(_, header) => void (header[3] = 1), "is of process 1 of 1, expected process 0 of 1"],
      [(_, header) => void (header[4] = 2), "whether it uses master weights, expected 0 or 1"],
      [(_, header) => void (header[5] = -1), "whether it shuffles, expected 0 or 1"],
      [(_, header) => void (header[5] = 0), "bytes are left over"],
      [(_, header) => void (header[4] = 1), "ends in the middle of the order"],
      [(_, header) => void (header[10] = -1), "says it is of step -1"],
      [(bytes) => bytes.subarray(0, 1024), "of this model takes at least"],
      [(bytes) => bytes.subarray(0, 1024 + 8 * COUNT), "ends in the middle of the order"],
      [(bytes) => bytes.subarray(0, -1), "ends in the middle of the order"],
      [(bytes) => new Uint8Array([...bytes, 0]), "1 bytes are left over"],
      [
        (bytes) => void bytes.fill(255, 1024 + 8 * COUNT, 1032 + 8 * COUNT),
        "ends in the middle of the order",
      ],
      [(bytes) => void bytes.fill(1, twister + 8, twister + 12), "no mt19937 generator"],
      [(bytes) => void bytes.fill(0, twister + 2512), "no mt19937 generator"],
    ];
    const read = tensors(-5000);
    for (const [change, message] of cases) {
      const bytes = whole.slice();
      Deno.writeFileSync(path, change(bytes, new Int32Array(bytes.buffer, 0, 256)) ?? bytes);
      const error = assertThrows(() => readState(path, read), FileError);
      assertStringIncludes(error.message, message);
      if (message.includes("process")) assertStringIncludes(error.hint ?? "", "--model");
      assertEquals(bits(read), bits(tensors(-5000)));
    }
    Deno.writeFileSync(path, whole);
    const other = allocateParameters({ ...CONFIG, L: 3 }, device, "fp32");
    const deeper = { device, m: other, v: other, master: null };
    assertThrows(() => readState(path, deeper), FileError, "of the order of the data");
    await writeState(path, tensors(0), state(PLAIN));
    assertThrows(() => readState(path, deeper), FileError, "takes at least");
  });
});

const python = needsPython("writeState() writes llm.c's structures, read by Python's struct", []);
Deno.test({
  ...python,
  fn: () =>
    inFolder(async (folder) => {
      const path = join(folder, "state.bin");
      const loader = shuffled(700);
      await writeState(path, tensors(1, true), state(loader), { rank: 2, world: 3 });
      // The layout as C lays it out on x86-64, written down here a second time.
      const found = JSON.parse(runPython([
        "-c",
        `import struct, sys, json
b = open(sys.argv[1], "rb").read(); n = int(sys.argv[2])
h = struct.unpack("<256i", b[:1024])
longs = [struct.unpack_from("<Q", b, 4 * i)[0] for i in (20, 22, 30, 32)]
floats = struct.unpack_from(f"<{3 * n}f", b, 1024); at = 1024 + 12 * n
count, = struct.unpack_from("<Q", b, at); shards = struct.unpack_from(f"<{count}i", b, at + 8); at += 8 + 4 * count
count, = struct.unpack_from("<Q", b, at); samples = struct.unpack_from(f"<{count}i", b, at + 8); at += 8 + 4 * count
seed, left, next, *rest = struct.unpack("<QiI624I2I", b[at:])
print(json.dumps(dict(h=[h[i] for i in (0, 1, 2, 3, 4, 5, 10)], zeros=sum(map(bool, h)), longs=[str(v) for v in longs],
  floats=list(floats) == list(range(1, 3 * n + 1)), shards=shards, samples=samples, seed=seed, left=left, next=next,
  words=rest[:624], matrix=rest[624:])))`,
        path,
        String(COUNT),
      ]));
      const { random } = loader.shuffle!;
      assertEquals(found, {
        h: [20240527, 1, 3, 2, 1, 1, 40],
        zeros: 7 + 2 + 2 + 1 + 1,
        longs: [String(2n ** 63n + 5n), String(2n ** 40n + 1n), "1", "3"],
        floats: true,
        shards: [2, 0, 1],
        samples: [1, 3, 0, 2],
        seed: 0,
        left: random.left,
        next: random.next,
        words: [...random.words],
        matrix: [0, 0x9908b0df],
      });
      assert(random.left !== 1);
    }),
});
