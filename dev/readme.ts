/**
 * Fills the README's flag tables from the tables that parse the flags. Run it after a flag changed; a test compares.
 *
 * @module
 */
import { join } from "@std/path";
import { COMMANDS } from "../cli.ts";
import { flagsMarkdown } from "../commands/help.ts";
import { ROOT } from "./compile/files.ts";

/** The README's path. */
export const README: string = join(ROOT, "README.md");

/** A README with the table of each command between its two markers. */
export async function fillFlags(readme: string): Promise<string> {
  for (const { name, load } of COMMANDS) {
    const { command } = await load();
    const start = `<!-- flags: ${name} -->\n`;
    const [before, after] = readme.split(start);
    const end = after?.indexOf("<!-- end of flags -->") ?? -1;
    if (end < 0) throw new Error(`README.md has no flag table for "${name}"`);
    readme = `${before}${start}\n${flagsMarkdown(command.flags)}\n${after!.slice(end)}`;
  }
  return readme;
}

if (import.meta.main) await Deno.writeTextFile(README, await fillFlags(await Deno.readTextFile(README)));
