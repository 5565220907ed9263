// The executable's permissions are what the program asks for: one that is missing would only show when that line runs.

import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { ROOT } from "../../dev/compile/files.ts";
import { ENVIRONMENT, SYSTEM } from "../../dev/compile/permissions.ts";

/** What Deno names of the system's state, by the functions that ask for it. */
const SYSTEM_CALL =
  /\bDeno\.(gid|hostname|loadavg|networkInterfaces|osRelease|osUptime|systemMemoryInfo|uid)\(/g;

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
  assertEquals([...SYSTEM].sort(), found(await program(), SYSTEM_CALL));
});
