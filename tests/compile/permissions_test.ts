// The executable's permissions are what the program asks for: one that is missing would only show when that line runs.

import { assertEquals, assertThrows } from "@std/assert";
import { join } from "@std/path";
import { ROOT } from "../../dev/compile/files.ts";
import { ENVIRONMENT, SYSTEM } from "../../dev/compile/permissions.ts";
import { checkDiskSpace } from "../../src/checkpoints.ts";
import { LlmtsError } from "../../src/errors.ts";

/** What Deno names of the system's state, by the functions that ask for it. */
const SYSTEM_CALL =
  /\bDeno\.(gid|hostname|loadavg|networkInterfaces|osRelease|osUptime|systemMemoryInfo|uid)\(/g;

/** The same by the functions of node's modules. */
const NODE_CALLS: Readonly<Record<string, string>> = {
  availableMemory: "systemMemoryInfo",
  constrainedMemory: "systemMemoryInfo",
  cpus: "cpus",
  freemem: "systemMemoryInfo",
  getegid: "getegid",
  geteuid: "uid",
  getgid: "gid",
  getPriority: "getPriority",
  getuid: "uid",
  homedir: "homedir",
  hostname: "hostname",
  loadavg: "loadavg",
  networkInterfaces: "networkInterfaces",
  release: "osRelease",
  setPriority: "setPriority",
  statfs: "statfs",
  statfsSync: "statfs",
  totalmem: "systemMemoryInfo",
  userInfo: "userInfo",
  version: "osRelease",
};

async function sources(folder: string): Promise<string> {
  let text = "";
  for await (const { name, isDirectory } of Deno.readDir(folder)) {
    const path = join(folder, name);
    if (isDirectory) text += await sources(path);
    else if (name.endsWith(".ts")) text += await Deno.readTextFile(path);
  }
  return text;
}

/** The program's sources without their comments. */
async function program(): Promise<string> {
  let text = await Deno.readTextFile(join(ROOT, "cli.ts"));
  for (const folder of ["commands", "src", "ffi"]) text += await sources(join(ROOT, folder));
  return text.replaceAll(/^\s*(\/\/|\/?\*).*$/gm, "");
}

function found(text: string, pattern: RegExp): string[] {
  return [...new Set([...text.matchAll(pattern)].map((match) => match[1]!))].sort();
}

Deno.test("ENVIRONMENT names the variables that the program reads", async () => {
  assertEquals([...ENVIRONMENT].sort(), found(await program(), /\bDeno\.env\.\w+\("(\w+)"/g));
});

Deno.test("SYSTEM names the state of the system that the program reads", async () => {
  const text = await program();
  const imports = found(text, /\bimport ([^;]*? from "node:)/g);
  for (const names of imports) assertEquals(names[0], "{", "node's functions are imported by name");
  const byNode = imports.flatMap((names) => names.match(/\w+/g)!).flatMap((name) => NODE_CALLS[name] ?? []);
  assertEquals([...SYSTEM].sort(), [...new Set([...found(text, SYSTEM_CALL), ...byNode])].sort());
});

Deno.test({
  name: "SYSTEM lets checkDiskSpace() know what the disk has left",
  permissions: { read: true, sys: SYSTEM as [] }, // Deno has more names than its type
  fn: () => void assertThrows(() => checkDiskSpace(ROOT, 1e18), LlmtsError, "left"),
});
