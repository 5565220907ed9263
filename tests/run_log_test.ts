import { assertAlmostEquals, assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { FileError } from "../src/errors.ts";
import { openRunLog, type RunLog, type UpdateMetrics } from "../src/run_log.ts";
import { inFolder } from "./folder.ts";

function metrics(values: Partial<UpdateMetrics> = {}): UpdateMetrics {
  return {
    loss: 4.23456,
    learningRate: 6e-4,
    gradNorm: 1.23456,
    ms: 12.5,
    tokensPerSecond: 20480,
    ...values,
  };
}

/** Updates 1 to 5, those after `from`, with validation before them and after the second and the fourth. */
function fiveSteps(log: RunLog, from = -1): void {
  for (let step = from + 1; step <= 5; step++) {
    if (step > 0) log.update(step, metrics({ loss: 10 - step }));
    if (step % 2 === 0) log.validation(step, { loss: 10.5 - step, tokens: 100 });
  }
}

function read(folder: string): { main: string; metrics: string } {
  return {
    main: Deno.readTextFileSync(join(folder, "main.log")),
    metrics: Deno.readTextFileSync(join(folder, "metrics.jsonl")),
  };
}

/** As llm.c's vislog.ipynb reads main.log: words of key:number, by step; a later value takes an earlier one's place. */
function parse(main: string): Map<string, Map<number, number>> {
  const streams = new Map<string, Map<number, number>>();
  for (const line of main.trimEnd().split("\n")) {
    const pairs = line.split(" ").map((word) => word.split(":") as [string, string]);
    assertEquals(pairs[0]![0], "s");
    const step = Number(pairs[0]![1]);
    for (const [key, value] of pairs.slice(1)) {
      assertEquals(Number.isFinite(Number(value)), true, line);
      streams.set(key, (streams.get(key) ?? new Map()).set(step, Number(value)));
    }
  }
  return streams;
}

Deno.test("openRunLog() writes main.log in llm.c's format, and JSON lines", async () => {
  await inFolder(async (folder) => {
    {
      using log = await openRunLog(folder);
      log.validation(0, { loss: 10.98765, tokens: 100 });
      log.update(1, metrics());
      log.update(2, metrics({ mfu: 0.25, memory: 1e9 }));
    }
    const { main, metrics: jsonl } = read(folder);
    assertEquals(
      main,
      "s:0 tel:10.9877\ns:0 trl:4.2346 lr:0.000600 norm:1.23\ns:1 trl:4.2346 lr:0.000600 norm:1.23\n",
    );
    const update = { loss: 4.23456, learningRate: 6e-4, gradNorm: 1.23456, ms: 12.5, tokensPerSecond: 20480 };
    assertEquals(jsonl.trimEnd().split("\n").map((line) => JSON.parse(line)), [
      { step: 0, valLoss: 10.98765, valTokens: 100 },
      { step: 1, ...update },
      { step: 2, ...update, mfu: 0.25, memory: 1e9 },
    ]);
  });
});

Deno.test("openRunLog() logs small rates with digits that a parser reads", async () => {
  const rates = [0, 1e-9, 1.23456e-7, 5e-7, 9.999e-5, 1e-4, 6e-4, 0.01, 1];
  await inFolder(async (folder) => {
    {
      using log = await openRunLog(folder);
      rates.forEach((learningRate, i) => log.update(i + 1, metrics({ learningRate })));
    }
    const logged = [...parse(read(folder).main).get("lr")!.values()];
    logged.forEach((rate, i) => assertAlmostEquals(rate, rates[i]!, 0.005 * rates[i]!));
  });
});

Deno.test("openRunLog() leaves out of metrics.jsonl what is not finite", async () => {
  await inFolder(async (folder) => {
    {
      using log = await openRunLog(folder);
      log.update(1, metrics({ mfu: NaN, gradNorm: Infinity }));
      log.update(2, metrics({ mfu: undefined }));
    }
    const rows = read(folder).metrics.trimEnd().split("\n");
    const keys = ["step", "loss", "learningRate", "gradNorm", "ms", "tokensPerSecond"];
    assertEquals(Object.keys(JSON.parse(rows[0]!)), keys.filter((key) => key !== "gradNorm"));
    assertEquals(Object.keys(JSON.parse(rows[1]!)), keys);
  });
});

Deno.test("openRunLog() starts empty without a step to go on from", async () => {
  await inFolder(async (folder) => {
    for (let run = 0; run < 2; run++) {
      using log = await openRunLog(folder);
      assertEquals(read(folder), { main: "", metrics: "" });
      fiveSteps(log);
    }
  });
});

Deno.test("openRunLog() that goes on drops what came after, so that both logs equal an undisturbed run's", async () => {
  await inFolder(async (folder) => {
    const whole = join(folder, "whole");
    Deno.mkdirSync(whole);
    {
      using log = await openRunLog(whole);
      fiveSteps(log);
    }
    for (let resumeAt = 0; resumeAt <= 5; resumeAt++) {
      {
        using log = await openRunLog(folder);
        fiveSteps(log);
      }
      // What a kill in the middle of a line leaves.
      Deno.writeTextFileSync(join(folder, "main.log"), "s:1 trl:3.1", { append: true });
      Deno.writeTextFileSync(join(folder, "metrics.jsonl"), '{"step":1', { append: true });
      {
        using log = await openRunLog(folder, { resumeAt });
        fiveSteps(log, resumeAt);
      }
      assertEquals(read(folder), read(whole), `going on from ${resumeAt}`);
    }
  });
});

Deno.test("openRunLog() goes on with a main.log of llm.c alone, its HellaSwag lines kept", async () => {
  await inFolder(async (folder) => {
    const lines = [
      "s:0 tel:4.5000",
      "s:0 trl:4.4000 lr:0.000100 norm:2.00",
      "s:1 trl:4.3000 lr:0.000100 norm:1.90",
    ];
    const after = ["s:2 tel:4.2000", "s:2 eval:0.2955", "s:2 trl:4.1000 lr:0.000100 norm:1.80"];
    Deno.writeTextFileSync(
      join(folder, "main.log"),
      [...lines, ...after].map((line) => line + "\n").join(""),
    );
    {
      using log = await openRunLog(folder, { resumeAt: 2 });
      log.update(3, metrics());
    }
    const kept = [...lines, after[0], after[1], "s:2 trl:4.2346 lr:0.000600 norm:1.23"];
    assertEquals(read(folder).main, kept.map((line) => line + "\n").join(""));
  });
});

Deno.test("openRunLog() says which log can't be written, and leaves none open", async () => {
  await inFolder(async (folder) => {
    await assertRejects(() => openRunLog(join(folder, "none")), FileError, "main.log");
    Deno.mkdirSync(join(folder, "metrics.jsonl"));
    await assertRejects(() => openRunLog(folder), FileError, "metrics.jsonl"); // Deno's test checks for leaks
  });
});
