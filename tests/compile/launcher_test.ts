// The portable executable's launcher, around a program that says how it was started.

import { assertEquals, assertMatch, assertNotEquals, assertStringIncludes } from "@std/assert";
import { dirname, join } from "@std/path";
import type { BuiltFile } from "../../dev/compile/files.ts";
import { makePortable } from "../../dev/compile/portable.ts";
import { type Run, spacedFolder, start } from "./executables.ts";

const PROGRAM = `
if (Deno.args[0] === "copy") await Deno.stdin.readable.pipeTo(Deno.stdout.writable);
else if (Deno.args[0] === "wait") {
  Deno.addSignalListener("SIGTERM", () => Deno.exit(7));
  console.log("waiting");
  setTimeout(() => {}, 60_000);
} else console.log(JSON.stringify({
  args: Deno.args,
  home: Deno.env.get("LLMTS_HOME"),
  asset: Deno.readTextFileSync(Deno.env.get("LLMTS_HOME") + "/assets/text"),
  run: (await Deno.permissions.query({ name: "run" })).state,
}));
`;

interface Report {
  readonly args: string[];
  readonly home: string;
  readonly asset: string;
  readonly run: string;
}

const windows = Deno.build.os === "windows";
const reason = windows ? " (skipped: Windows has no shell for it)" : "";

let folder = "";
let executable = "";
Deno.test.beforeAll(async () => {
  folder = await Deno.makeTempDir();
  if (windows) return;
  const program = join(folder, "program.ts");
  const asset: BuiltFile = { name: "assets/text", path: join(folder, "asset") };
  await Deno.writeTextFile(program, PROGRAM);
  await Deno.writeTextFile(asset.path, "an asset");
  const made = join(folder, "the executable");
  await Deno.mkdir(made);
  executable = await makePortable(made, [asset], program);
});
Deno.test.afterAll(() => Deno.remove(folder, { recursive: true }));

function report(run: Run): Report {
  assertEquals([run.code, run.stderr], [0, ""]);
  return JSON.parse(run.stdout) as Report;
}

/** The folder that the only start in `cache` unpacked; nothing else may be left there. */
function unpacked(cache: string): string {
  const names = [...Deno.readDirSync(join(cache, "llmts"))].map((entry) => entry.name);
  assertEquals(names.length, 1, names.join(" "));
  return join(cache, "llmts", names[0]!);
}

function check(name: string, test: (cache: string) => Promise<void>): void {
  Deno.test({ name: `${name}${reason}`, ignore: windows }, async () => {
    await using cache = await spacedFolder();
    await test(cache.path);
  });
}

check("the launcher hands on arguments as they are and grants no more than needed", async (cache) => {
  const args = ["", "two words", "*", "--help", "-A", "'", "$HOME"];
  const { home, ...rest } = report(
    await start(executable, args, { cwd: cache, env: { XDG_CACHE_HOME: cache } }),
  );
  assertEquals(rest, { args, asset: "an asset", run: "prompt" });
  assertEquals(home, unpacked(cache));
});

check("the launcher hands on standard input and signals", async (cache) => {
  const options = { env: { XDG_CACHE_HOME: cache }, stdin: "piped", stdout: "piped" } as const;
  const copy = new Deno.Command(executable, { args: ["copy"], ...options }).spawn();
  await new Blob(["some text"]).stream().pipeTo(copy.stdin);
  assertEquals(new TextDecoder().decode((await copy.output()).stdout), "some text");

  const wait = new Deno.Command(executable, { args: ["wait"], ...options, stdin: "null" }).spawn();
  const reader = wait.stdout.getReader();
  await reader.read();
  wait.kill("SIGTERM");
  assertEquals((await wait.status).code, 7);
  await reader.cancel();
});

check("the launcher unpacks once, also where several start at the same time", async (cache) => {
  const again = (): Promise<Run> => start(executable, [], { cwd: cache, env: { XDG_CACHE_HOME: cache } });
  const homes = (await Promise.all([again(), again(), again()])).map((run) => report(run).home);
  assertEquals(homes, Array(3).fill(unpacked(cache)));
  const { ino, mtime } = await Deno.stat(join(homes[0]!, "deno"));
  report(await again());
  const later = await Deno.stat(join(homes[0]!, "deno"));
  assertEquals([later.ino, later.mtime], [ino, mtime]);
});

check(
  "the launcher replaces a cache folder that is not whole and leaves half-made ones alone",
  async (cache) => {
    const again = (): Promise<Run> => start(executable, [], { cwd: cache, env: { XDG_CACHE_HOME: cache } });
    const { home } = report(await again());
    await Deno.remove(join(home, "assets", "text"));
    assertEquals(report(await again()).asset, "an asset");
    await Deno.writeTextFile(join(home, "llmts.js"), "");
    assertEquals(report(await again()).asset, "an asset");
    await Deno.remove(home, { recursive: true });
    await Deno.mkdir(join(dirname(home), ".part.killed", "assets"), { recursive: true });
    assertEquals(report(await again()).asset, "an asset");
  },
);

check("the launcher uses TMPDIR where there is no HOME or its cache cannot be written", async (cache) => {
  await Deno.writeTextFile(join(cache, ".cache"), "in the way");
  for (const env of [{ HOME: cache }, {}] as Record<string, string>[]) {
    const temporary = await Deno.makeTempDir({ dir: cache });
    const first = await start(executable, [], { cwd: cache, env: { ...env, TMPDIR: temporary } });
    assertEquals(first.code, 0);
    assertMatch(first.stderr, /^llmts: .*: unpacking into ".*\/llmts-\d+"\n$/);
    const second = report(await start(executable, [], { cwd: cache, env: { ...env, TMPDIR: temporary } }));
    assertStringIncludes(second.home, temporary);
  }
});

check("the launcher says in one line where it cannot unpack", async (cache) => {
  await Deno.writeTextFile(join(cache, "file"), "");
  const nowhere = await start(executable, [], {
    cwd: cache,
    env: { XDG_CACHE_HOME: join(cache, "file"), TMPDIR: join(cache, "file") },
  });
  assertEquals([nowhere.code, nowhere.stdout], [1, ""]);
  assertMatch(nowhere.stderr, /^llmts: .*cannot be written.*set XDG_CACHE_HOME.*\n$/);
});

check("the launcher refuses a damaged file", async (cache) => {
  const bytes = await Deno.readFile(executable);
  const damaged = join(cache, "llmts");
  const run = async (content: Uint8Array): Promise<Run> => {
    await Deno.writeFile(damaged, content, { mode: 0o755 });
    return await start(damaged, [], { cwd: cache, env: { XDG_CACHE_HOME: join(cache, "cache") } });
  };
  const short = await run(bytes.subarray(0, bytes.length >> 1));
  assertEquals(short.code, 1);
  assertMatch(short.stderr, /^llmts: ".*" has \d+ bytes of \d+: copy it or make it again\n$/);

  bytes.fill(0, bytes.length >> 1, (bytes.length >> 1) + 64);
  const changed = await run(bytes);
  assertNotEquals(changed.code, 0);
  assertMatch(changed.stderr, /^llmts: unpacking into ".*" failed: .*\n$/);
  assertEquals([...Deno.readDirSync(join(cache, "cache", "llmts"))], []);
});
