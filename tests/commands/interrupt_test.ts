import { assert, assertEquals } from "@std/assert";
import { toFileUrl } from "@std/path";
import { join } from "@std/path";

const MODULE = toFileUrl(join(import.meta.dirname!, "../../commands/interrupt.ts")).href;

/** Runs a script that has an `interrupt`; sends SIGINT whenever it prints "ready". */
async function signalled(
  script: string,
): Promise<{ status: Deno.CommandStatus; stdout: string; milliseconds: number }> {
  const code = `import { catchInterrupt, yieldToListeners } from ${JSON.stringify(MODULE)};
    function busy(milliseconds) { for (const end = Date.now() + milliseconds; Date.now() < end;); }
    ${script}`;
  const process = new Deno.Command(Deno.execPath(), {
    args: ["eval", "--ext=ts", code],
    stdout: "piped",
    stderr: "null",
    stdin: "null",
  }).spawn();
  const start = performance.now();
  let stdout = "";
  for await (const text of process.stdout.pipeThrough(new TextDecoderStream())) {
    stdout += text;
    if (text.includes("twice")) setTimeout(() => process.kill("SIGINT"), 1000);
    if (text.includes("ready")) process.kill("SIGINT");
  }
  return { status: await process.status, stdout, milliseconds: performance.now() - start };
}

const onlyWithSignals = { ignore: Deno.build.os === "windows" };

Deno.test(
  "catchInterrupt() catches the first Ctrl-C, though the program is busy when it comes",
  onlyWithSignals,
  async () => {
    const { status, stdout } = await signalled(`
    await using interrupt = await catchInterrupt(() => console.log("caught"));
    console.log("ready");
    busy(500);
    console.log("before", interrupt.requested);
    // A busy machine may send it late.
    for (const end = Date.now() + 20000; !interrupt.requested && Date.now() < end;) await yieldToListeners();
    console.log("after", interrupt.requested);`);
    assertEquals(status.code, 0);
    assertEquals(stdout, "ready\nbefore false\ncaught\nafter true\n");
  },
);

Deno.test(
  "catchInterrupt() ends the program at the second Ctrl-C, between kernels",
  onlyWithSignals,
  async () => {
    const { status, stdout, milliseconds } = await signalled(`
    await using interrupt = await catchInterrupt(() => console.log("caught"));
    console.log("ready");
    while (!interrupt.requested) await yieldToListeners();
    busy(500);
    console.log("ready");
    busy(60000);
    console.log("survived");`);
    assertEquals([status.code, stdout], [130, "ready\ncaught\nready\n"]);
    assert(milliseconds < 30000);
  },
);

Deno.test(
  "catchInterrupt() ends the program at the second Ctrl-C, though the first one's kernel isn't done",
  onlyWithSignals,
  async () => {
    const { status, stdout, milliseconds } = await signalled(`
    await using interrupt = await catchInterrupt(() => console.log("caught"));
    console.log("ready, twice");
    busy(60000);
    console.log("survived");`);
    assertEquals([status.code, stdout], [130, "ready, twice\n"]);
    assert(milliseconds < 30000);
  },
);

Deno.test("catchInterrupt() takes signals that come together for one", onlyWithSignals, async () => {
  const { status, stdout } = await signalled(`
    await using interrupt = await catchInterrupt(() => console.log("caught"));
    Deno.kill(Deno.pid, "SIGINT");
    Deno.kill(Deno.pid, "SIGINT");
    busy(500);
    await yieldToListeners();
    console.log("after", interrupt.requested);`);
  assertEquals([status.code, stdout], [0, "caught\nafter true\n"]);
});

Deno.test("catchInterrupt() gives Ctrl-C back when it is disposed of", onlyWithSignals, async () => {
  const { status, stdout } = await signalled(`
    { await using interrupt = await catchInterrupt(() => console.log("caught")); }
    console.log("ready");
    busy(60000);`);
  assertEquals([status.success, stdout], [false, "ready\n"]);
});

Deno.test(
  "catchInterrupt() lets a program go on without its terminal where SIGHUP is ignored, as nohup does",
  onlyWithSignals,
  async () => {
    const script = `import { catchInterrupt, yieldToListeners } from ${JSON.stringify(MODULE)};
    await using interrupt = await catchInterrupt(() => console.log("caught"));
    Deno.kill(Deno.pid, "SIGHUP");
    for (const end = Date.now() + 500; Date.now() < end;) await yieldToListeners();
    console.log("after", interrupt.requested);`;
    for (const [trap, expected] of [["true", "caught\nafter true\n"], ["trap '' HUP", "after false\n"]]) {
      const { code, stdout } = await new Deno.Command("sh", {
        args: ["-c", `${trap}; exec "$0" eval --ext=ts "$1"`, Deno.execPath(), script],
        stderr: "null",
      }).output();
      assertEquals([code, new TextDecoder().decode(stdout)], [0, expected], trap);
    }
  },
);
