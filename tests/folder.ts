/**
 * A folder for a test's files.
 *
 * @module
 */

/** Runs with a temporary folder, whose path has a space, and removes it. */
export async function inFolder(run: (folder: string) => void | Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "llmts test " });
  try {
    await run(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}
