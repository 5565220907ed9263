/**
 * This machine in words: what a measured time depends on.
 *
 * @module
 */
import type { DeviceInfo } from "../ffi/library.ts";

/** The name of the load before the bench: how many threads ran or wanted to, on average over a minute. */
export const LOAD = "Load before";

function read(path: string): string {
  try {
    return Deno.readTextFileSync(path).trim();
  } catch {
    return "";
  }
}

/** A program's one line of output, or "" where it is not there or fails. */
async function lineOf(program: string, ...args: string[]): Promise<string> {
  try {
    const { success, stdout } = await new Deno.Command(program, { args, stderr: "null" }).output();
    return success ? new TextDecoder().decode(stdout).trim() : "";
  } catch {
    return "";
  }
}

function caches(): string {
  const found: string[] = [];
  for (let index = 0;; index++) {
    const folder = `/sys/devices/system/cpu/cpu0/cache/index${index}`;
    const level = read(`${folder}/level`);
    if (level === "") break;
    const type = read(`${folder}/type`);
    if (type === "Instruction") continue;
    const shared = read(`${folder}/shared_cpu_list`);
    found.push(`L${level} ${read(`${folder}/size`)} for processors ${shared}`);
  }
  return found.join(", ");
}

/** PyTorch's version, or undefined where it is not installed. */
export async function pytorchVersion(): Promise<string | undefined> {
  return await lineOf("python3", "-c", "import torch; print(torch.__version__)") || undefined;
}

/** Names and values; what the system does not say is left out. `root` is the project's folder. */
export async function describeMachine(
  { variant, threads, features }: DeviceInfo,
  pytorch: string | undefined,
  root: string,
): Promise<Record<string, string>> {
  const [commit, changed] = await Promise.all([
    lineOf("git", "-C", root, "rev-parse", "--short", "HEAD"),
    lineOf("git", "-C", root, "status", "--porcelain", "--untracked-files=no"),
  ]);
  const transformers = pytorch === undefined
    ? ""
    : await lineOf("python3", "-c", "import importlib.metadata as m; print(m.version('transformers'))");
  const hugePages = /\[(\w+)\]/.exec(read("/sys/kernel/mm/transparent_hugepage/enabled"))?.[1];
  const facts: Record<string, string> = {
    "Processor": /model name\s*:\s*(.+)/.exec(read("/proc/cpuinfo"))?.[1] ?? Deno.build.arch,
    "Processors": `${navigator.hardwareConcurrency}, threads used: ${threads}`,
    "Features": features.join(" "),
    "Caches": caches(),
    "Memory": `${(Deno.systemMemoryInfo().total / 2 ** 30).toFixed(1)} GiB`,
    "System": `${Deno.build.os} ${Deno.osRelease()}, transparent huge pages: ${hugePages ?? "unknown"}`,
    [LOAD]: Deno.loadavg()[0]!.toFixed(2),
    "llmts": commit === "" ? "" : `${commit}${changed === "" ? "" : " with changes"}`,
    "CPU library": variant,
    "Deno": Deno.version.deno,
    "PyTorch": pytorch ?? "not installed",
    "transformers": transformers,
  };
  return Object.fromEntries(Object.entries(facts).filter(([, value]) => value !== ""));
}
