import { assert, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { BinaryReader } from "@bufbuild/protobuf/wire";
import { FileError } from "../src/errors.ts";
import { openRunLog, type RunLogOptions } from "../src/run_log.ts";
import { openEventFile } from "../src/tensorboard.ts";
import { inFolder } from "./folder.ts";
import { needsPython, runPython } from "./reference/python.ts";

/** CRC-32C bit by bit (polynomial 0x1EDC6F41, reflected). */
function crc32c(bytes: Uint8Array): number {
  let crc = ~0;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0x82f63b78 : 0);
  }
  return ~crc >>> 0;
}

/** The records of an event file; their lengths and checksums are checked on the way. */
function records(path: string): Uint8Array[] {
  const bytes = Deno.readFileSync(path);
  const view = new DataView(bytes.buffer);
  const check = (from: number, to: number): void => {
    const crc = crc32c(bytes.subarray(from, to));
    const rotated = BigInt(crc >>> 15) | (BigInt(crc) << 17n);
    assertEquals(BigInt(view.getUint32(to, true)), BigInt.asUintN(32, rotated + 0xa282ead8n));
  };
  const found: Uint8Array[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = Number(view.getBigUint64(at, true));
    check(at, at + 8);
    check(at + 12, at + 12 + length);
    found.push(bytes.subarray(at + 12, at + 12 + length));
    at += 16 + length;
  }
  return found;
}

/** The fields of an Event by number. */
function eventFields(event: Uint8Array): Record<number, unknown> {
  const fields: Record<number, unknown> = {};
  const reader = new BinaryReader(event);
  while (reader.pos < reader.len) {
    const [field] = reader.tag();
    if (field === 1) fields[field] = reader.double();
    else if (field === 2) fields[field] = Number(reader.int64());
    else if (field === 3) fields[field] = reader.string();
    else fields[field] = [...reader.bytes()];
  }
  return fields;
}

function eventFiles(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).filter((name) => name.includes("tfevents"))
    .sort();
}

Deno.test("openEventFile() frames records with the checksums of TFRecord", async () => {
  assertEquals(crc32c(new TextEncoder().encode("123456789")), 0xe3069283); // the check value of CRC-32C
  await inFolder((folder) => {
    {
      using events = openEventFile(folder);
      for (let step = 1; step <= 300; step++) events.scalars(step, { "train/loss": 1 / step });
    }
    const [name] = eventFiles(folder);
    const found = records(join(folder, name!));
    assertEquals(found.length, 302);
    const fields = eventFields(found[0]!);
    assert(Math.abs(fields[1] as number - Date.now() / 1000) < 60, "wall time in seconds");
    assertEquals(fields[3], "brain.Event:2");
  });
});

for (const [resumeAt, step] of [[undefined, 0], [40, 41]] as const) {
  Deno.test(`openEventFile() starts a session at its first step (${step})`, async () => {
    await inFolder((folder) => {
      openEventFile(folder, resumeAt)[Symbol.dispose]();
      const [, start, ...rest] = records(join(folder, eventFiles(folder)[0]!));
      const { 1: _wallTime, ...fields } = eventFields(start!);
      assertEquals(fields, { 2: step, 7: [8, 1] }); // SessionLog's field 1, a varint: START
      assertEquals(rest, []);
    });
  });
}

Deno.test("openRunLog() of a new run empties this program's event files, and no others", async () => {
  await inFolder(async (folder) => {
    const others = [
      "events.out.tfevents.1700000000.host.1234.0",
      "events.out.tfevents.1700000000.llmts.1234.0",
      "tfevents.llmts.0",
    ];
    for (const name of others) Deno.writeTextFileSync(join(folder, name), "another's");
    /** Opens and closes the logs; which of our event files hold anything then. */
    const open = async (options: RunLogOptions): Promise<boolean[]> => {
      (await openRunLog(folder, options))[Symbol.dispose]();
      const ours = eventFiles(folder).filter((name) => !others.includes(name));
      return ours.map((name) => Deno.statSync(join(folder, name)).size > 0);
    };
    assertEquals(await open({ tensorboard: true }), [true]);
    assertEquals(await open({ tensorboard: true, resumeAt: 3 }), [true, true]);
    assertEquals(await open({ tensorboard: true }), [false, false, true]);
    assertEquals(await open({}), [false, false, false]);
    for (const name of others) assertEquals(Deno.readTextFileSync(join(folder, name)), "another's");
  });
});

Deno.test("openEventFile() never writes into a file that is there", async () => {
  await inFolder(async (folder) => {
    for (let run = 0; run < 3; run++) {
      using events = openEventFile(folder);
      events.scalars(1, { value: run });
    }
    assertEquals(eventFiles(folder).length, 3);
    await assertRejects(
      async () => await openEventFile(join(folder, "none")),
      FileError,
      "no such file or folder",
    );
  });
});

Deno.test({
  ...needsPython("openRunLog() writes events that TensorBoard reads, and resumes them", ["tensorboard"]),
  fn: () =>
    inFolder(async (folder) => {
      for (const [from, to, resumeAt] of [[0, 5, undefined], [3, 6, 3]] as const) {
        using log = await openRunLog(folder, { tensorboard: true, resumeAt });
        for (let step = from + 1; step <= to; step++) {
          const loss = 10 - step + (resumeAt ?? 0);
          log.update(step, {
            loss,
            learningRate: 6e-4,
            gradNorm: 0.5,
            ms: 10,
            tokensPerSecond: 2000,
            mfu: 0.25,
          });
          if (step % 3 === 0) log.validation(step, { loss: loss + 0.5, tokens: 64 });
        }
      }
      assertEquals(eventFiles(folder).length, 2);
      const found = JSON.parse(runPython([
        "-c",
        `import sys, json, logging; logging.disable(logging.WARNING)
from tensorboard.backend.event_processing.plugin_event_accumulator import EventAccumulator
from tensorboard.util.tensor_util import make_ndarray
events = EventAccumulator(sys.argv[1]); events.Reload()
print(json.dumps({tag: [[e.step, make_ndarray(e.tensor_proto).item()] for e in events.Tensors(tag)]
  for tag in sorted(events.Tags()["tensors"])}))`,
        folder,
      ]));
      const steps = [1, 2, 3, 4, 5, 6];
      // Steps 4 and 5 of the first file are dropped: they came after the step that was gone on from.
      assertEquals(found, {
        "speed/mfu": steps.map((step) => [step, 0.25]),
        "speed/tokens_per_second": steps.map((step) => [step, 2000]),
        "train/gradient_norm": steps.map((step) => [step, 0.5]),
        "train/learning_rate": steps.map((step) => [step, Math.fround(6e-4)]),
        "train/loss": [[1, 9], [2, 8], [3, 7], [4, 9], [5, 8], [6, 7]],
        "val/loss": [[3, 7.5], [6, 7.5]],
      });
    }),
});
