import { assertEquals, assertRejects, assertStringIncludes, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { FileError } from "../../src/errors.ts";
import { readRunState, type RunState, writeRunState } from "../../src/io/run_state.ts";
import { createOutlierDetector } from "../../src/outliers.ts";
import { Random } from "../../src/random.ts";
import { inFolder } from "../folder.ts";

function runState(): RunState {
  const random = new Random(7);
  const detector = createOutlierDetector();
  for (let i = 0; i < 130; i++) detector.push(random.randfloat64());
  const { values, ...rest } = detector.state();
  const losses = { values: [...values], ...rest };
  return {
    step: 40,
    tokens: 10240,
    epoch: 1,
    dataTokens: [1000, 2 ** 31 - 1],
    best: { loss: 3.1, step: 30 },
    validated: 40,
    losses,
    norms: { values: [], next: 0, sum: 0, sumOfSquares: 0 },
    flags: { "batch-size": 4, tiny: 5e-324, model: "a b.bin", shuffle: true, data: ["a", "b"] },
  };
}

Deno.test("readRunState() gives back what writeRunState() wrote, every number to the bit", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "run.json");
    await writeRunState(path, runState());
    assertEquals(readRunState(path), runState());
    await writeRunState(path, { ...runState(), device: "a processor, 2 threads" });
    assertEquals(readRunState(path).device, "a processor, 2 threads");
    await writeRunState(path, { ...runState(), best: null });
    assertEquals(readRunState(path).best, null);
    const { dataTokens: _, ...earlier } = runState();
    await writeRunState(path, earlier);
    assertEquals(readRunState(path), earlier);
    assertEquals([...Deno.readDirSync(folder)].length, 1);
  });
});

Deno.test("writeRunState() refuses numbers that JSON can't hold", async () => {
  await inFolder(async (folder) => {
    for (const loss of [NaN, Infinity]) {
      await assertRejects(() =>
        writeRunState(join(folder, "run.json"), { ...runState(), best: { loss, step: 1 } })
      );
    }
    assertEquals([...Deno.readDirSync(folder)].length, 0);
  });
});

Deno.test("readRunState() says what is wrong with a file that is not one", async () => {
  await inFolder(async (folder) => {
    const path = join(folder, "run.json");
    await writeRunState(path, runState());
    const whole = Deno.readTextFileSync(path);
    const cases: [text: string, message: string][] = [
      ["", "is not JSON"],
      [whole.slice(0, 100), "is not JSON"],
      ["\xff", "is not JSON"],
      ["{}", 'is not a run state of version 2 at "format"'],
      ["[]", "is not a run state of version 2: "],
      [whole.replace('"version":2', '"version":1'), 'at "version"'],
      [whole.replace('"step":40', '"step":-1'), 'at "step"'],
      [whole.replace('"step":40', '"step":4.5'), 'at "step"'],
      [whole.replace('"validated":40', '"validated":"40"'), 'at "validated"'],
      [whole.replace('"tokens"', '"tokns"'), 'at "tokens"'],
      [whole.replace('"tiny":', '"tiny":null,"s":'), 'at "flags.tiny"'],
    ];
    for (const [text, message] of cases) {
      Deno.writeTextFileSync(path, text);
      const error = assertThrows(() => readRunState(path), FileError);
      assertStringIncludes(error.message, `"${path}"`);
      assertStringIncludes(error.message, message);
    }
  });
});
