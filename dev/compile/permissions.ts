/**
 * What the program may do, as flags of `deno run` and `deno compile`. Both kinds of executable carry just these; a test
 * compares the names with what the sources ask for.
 *
 * @module
 */

/** Environment variables that the program and its packages read. */
export const ENVIRONMENT: readonly string[] = [
  "HF_ENDPOINT",
  "LLMTS_CPU_VARIANT",
  "LLMTS_HOME",
  "LLMTS_LIBRARY_PATH",
];

/** What of the system's state it asks for (`Deno.systemMemoryInfo`, node's `statfsSync` …), by Deno's names. */
export const SYSTEM: readonly string[] = ["statfs", "systemMemoryInfo"];

/**
 * Reading, writing, loading libraries and the network are not narrowed: the user's flags name any file, `--library` any
 * library and `--base-url` any server, which may redirect to others.
 */
export const PERMISSIONS: readonly string[] = [
  "--allow-read",
  "--allow-write",
  "--allow-ffi",
  `--allow-env=${ENVIRONMENT.join()}`,
  `--allow-sys=${SYSTEM.join()}`,
  "--allow-net",
];
