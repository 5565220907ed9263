/**
 * The portable kind of executable: a shell script (launcher.sh) that carries Deno itself, the bundled program, the
 * kernel libraries and the assets. It needs no more than what every Linux and macOS has: sh, tar, gzip.
 *
 * @module
 */
import { dirname, join } from "@std/path";
import { LlmtsError } from "../../src/errors.ts";
import { run } from "./command.ts";
import { type BuiltFile, ROOT } from "./files.ts";
import { PERMISSIONS } from "./permissions.ts";

/**
 * Makes the portable executable in a working folder.
 *
 * @param folder an empty folder
 * @param files the libraries and assets
 * @param program the module to start
 * @returns the executable's path
 * @throws {LlmtsError} the program can't be bundled or the archive can't be made
 */
export async function makePortable(
  folder: string,
  files: readonly BuiltFile[],
  program: string = join(ROOT, "cli.ts"),
): Promise<string> {
  if (Deno.build.os === "windows") {
    throw new LlmtsError(
      "The portable kind of executable is a shell script, and Windows has no shell for it",
      {
        hint: "run the program from source: `deno run -A cli.ts`",
      },
    );
  }
  const content = join(folder, "content");
  const names = ["deno", "llmts.js", ...files.map((file) => file.name)];
  for (const name of names) await Deno.mkdir(dirname(join(content, name)), { recursive: true });
  await Deno.copyFile(Deno.execPath(), join(content, "deno"));
  await Deno.chmod(join(content, "deno"), 0o755);
  await run(Deno.execPath(), ["bundle", "--quiet", "--output", join(content, "llmts.js"), program]);
  for (const { name, path } of files) await Deno.copyFile(path, join(content, name));

  const archive = join(folder, "content.tar.gz");
  await run("tar", ["-czf", archive, "-C", content, ...names]);
  const output = join(folder, "llmts");
  await Deno.writeTextFile(output, await launcher(content, names, (await Deno.stat(archive)).size));
  await Deno.chmod(output, 0o755);
  using end = await Deno.open(output, { append: true });
  using start = await Deno.open(archive);
  await start.readable.pipeTo(end.writable);
  return output;
}

/** The launcher script for the files `names` in folder `content`, to be followed by an archive of `archiveBytes`. */
async function launcher(content: string, names: readonly string[], archiveBytes: number): Promise<string> {
  let total = 0;
  const sizes: string[] = [];
  const hashes: string[] = [];
  for (const name of names) {
    const bytes = await Deno.readFile(join(content, name));
    total += bytes.length;
    sizes.push(`${bytes.length} ${name}`);
    hashes.push(`${await sha256(bytes)}  ${name}\n`);
  }
  const values: Record<string, string> = {
    hash: await sha256(new TextEncoder().encode(hashes.join(""))),
    sizes: `${sizes.join(" ")} ${total} total`, // as wc -c prints them
    names: names.join(" "),
    machine: (await run("uname", ["-sm"])).trim().replace(" ", "-"),
    permissions: PERMISSIONS.join(" "),
  };
  const template = await Deno.readTextFile(join(ROOT, "dev", "compile", "launcher.sh"));
  // The script says where it ends, and its length depends on these numbers' digits.
  let script = "";
  for (let bytes = -1; bytes !== script.length;) {
    bytes = script.length;
    values.payload_start = String(bytes + 1);
    values.file_size = String(bytes + archiveBytes);
    script = template.replace(/@(\w+)@/g, (_, name: string) => values[name]!);
  }
  return script;
}

async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}
