/**
 * Downloading a large file: resumed where it was cut off, checked against the size and hash that the server names, and
 * given its name only when it is whole.
 *
 * The headers are those of the Hugging Face hub: `x-linked-etag` is the sha256 of a large file and `x-linked-size` its
 * size; the `etag` of a small one is its git blob sha1. Both stand on the first answer, before any redirect to a mirror.
 *
 * @module
 */
import { FileError, LlmtsError } from "../errors.ts";
import { exists, hashFile, openForReading, removeFile, systemError, writeFully } from "./files.ts";
import { downloadError, requireOk, StatusError } from "./http.ts";

/** A file on a server. */
export interface RemoteFile {
  readonly url: string;
  /** In bytes; undefined where the server doesn't say. */
  readonly size: number | undefined;
  /** Undefined where the server names none that is known to be one. */
  readonly digest: Digest | undefined;
}

/** A hash of a file's content. Git's is over `blob SIZE\0` and the content. */
export interface Digest {
  readonly algorithm: "sha256" | "git sha1";
  readonly hex: string;
}

/** How to download. */
export interface DownloadOptions {
  /** What to do about a failure. */
  readonly hint: string;
  /** Longest wait for an answer, and for the next piece of a file. Default 30 s. */
  readonly timeoutMs?: number | undefined;
  /** Waits before the tries that follow a failure which may pass. Default 1, 2 and 4 s. */
  readonly delaysMs?: readonly number[] | undefined;
  /** Is told how many bytes are there. */
  readonly onProgress?: ((done: number, size: number | undefined) => void) | undefined;
}

const TIMEOUT_MS = 30_000;
const DELAYS_MS = [1000, 2000, 4000];
const MOST_REDIRECTS = 5;
const KEPT = "what has come is kept: the same command goes on from there";

/** Sizes and ranges are of the bytes themselves, not of a compressed form. */
const HEADERS = { "accept-encoding": "identity" };

/**
 * Asks for size and hash of a file.
 *
 * @returns undefined where the server has no such file (404)
 * @throws {LlmtsError} the server can't be reached or refuses
 */
export async function inspectRemote(url: string, options: DownloadOptions): Promise<RemoteFile | undefined> {
  return await retried(url, options, async () => {
    let target = url;
    for (let hop = 0; hop <= MOST_REDIRECTS; hop++) {
      const signal = AbortSignal.timeout(options.timeoutMs ?? TIMEOUT_MS);
      const response = await fetch(target, { method: "HEAD", redirect: "manual", headers: HEADERS, signal });
      const { headers, status } = response;
      const location = headers.get("location");
      if (location === null || headers.has("x-linked-etag")) {
        if (status === 404) return undefined;
        if (location === null) await requireOk(response);
        return { url, size: remoteSize(headers), digest: remoteDigest(headers) };
      }
      target = new URL(location, target).href;
    }
    throw new Error(`more than ${MOST_REDIRECTS} redirects`);
  });
}

function remoteSize(headers: Headers): number | undefined {
  const text = headers.get("x-linked-size") ?? headers.get("content-length");
  return text !== null && /^\d+$/.test(text) ? Number(text) : undefined;
}

function remoteDigest(headers: Headers): Digest | undefined {
  const hex = (name: string, digits: number): string | undefined =>
    new RegExp(`^(?:W/)?"?([0-9a-f]{${digits}})"?$`).exec(headers.get(name) ?? "")?.[1];
  const sha256 = hex("x-linked-etag", 64);
  if (sha256 !== undefined) return { algorithm: "sha256", hex: sha256 };
  // Only the hub's tag is known to be a hash of git's.
  const sha1 = headers.has("x-repo-commit") ? hex("etag", 40) : undefined;
  return sha1 === undefined ? undefined : { algorithm: "git sha1", hex: sha1 };
}

/**
 * Downloads a file. What has come so far is in `PATH.part`; the next call goes on from there where a hash will tell whether
 * the whole is right.
 *
 * @returns whether it was downloaded; false: it was there already, with the right size and hash
 * @throws {LlmtsError} the server can't be reached or refuses, however often asked
 * @throws {FileError} another file has that name, the content isn't what the server said, or it can't be written
 */
export async function downloadFile(
  remote: RemoteFile,
  path: string,
  options: DownloadOptions,
): Promise<boolean> {
  const { url, digest } = remote;
  if (exists(path)) {
    const problem = contentProblem(path, remote);
    if (problem === undefined) return false;
    throw new FileError(path, `is there already and is not the file at "${url}": ${problem}`, {
      hint: "move it away, or give another folder",
    });
  }
  const part = `${path}.part`;
  if (digest === undefined) removeFile(part);
  await retried(url, options, () => fetchRest(remote, part, options));
  const problem = contentProblem(part, remote);
  if (problem !== undefined) {
    removeFile(part);
    throw new FileError(path, `came damaged from "${url}": ${problem}`, { hint: "download it again" });
  }
  onDisk(path, () => Deno.renameSync(part, path), KEPT);
  return true;
}

/** Appends to `part` what is missing of the file. */
async function fetchRest(
  { url, size }: RemoteFile,
  part: string,
  { timeoutMs = TIMEOUT_MS, onProgress }: DownloadOptions,
): Promise<void> {
  using file = onDisk(part, () => Deno.openSync(part, { read: true, write: true, create: true }));
  let done = file.statSync().size;
  if (size !== undefined && done > size) done = 0; // of another file
  if (done > 0 && done === size) return;

  const stall = new AbortController();
  const giveUp = (): void => stall.abort(new Error(`nothing came for ${timeoutMs / 1000} s`));
  let timer = setTimeout(giveUp, timeoutMs);
  try {
    const headers = done > 0 ? { ...HEADERS, range: `bytes=${done}-` } : HEADERS;
    const response = await fetch(url, { headers, signal: stall.signal });
    const goesOn = response.status === 206 &&
      response.headers.get("content-range")?.startsWith(`bytes ${done}-`) === true;
    if ((response.ok && !goesOn) || response.status === 416) {
      if (file.statSync().size > 0) onDisk(part, () => file.truncateSync());
      done = 0; // the server knows no ranges, or not this one: from the start, now or at the next try
    }
    if (response.status === 206 && !goesOn) throw await unexpectedRange(response);
    await requireOk(response);
    file.seekSync(done, Deno.SeekMode.Start);
    for await (const piece of response.body ?? []) {
      clearTimeout(timer);
      timer = setTimeout(giveUp, timeoutMs);
      onDisk(part, () => writeFully(file, piece), KEPT);
      done += piece.length;
      if (size !== undefined && done > size) throw new Error(`more than ${size} bytes came`);
      onProgress?.(done, size);
    }
  } finally {
    clearTimeout(timer);
    stall.abort(); // ends a body that was left unread
  }
  if (size !== undefined && done < size) {
    throw new Error(`the connection ended after ${done} of ${size} bytes`);
  }
  onDisk(part, () => file.syncSync(), KEPT);
}

async function unexpectedRange(response: Response): Promise<Error> {
  await response.body?.cancel();
  return new Error(`the server sent the range "${response.headers.get("content-range")}"`);
}

/** What an action that writes a file returns. @throws {FileError} the system refuses: no failure of the network's */
function onDisk<T>(path: string, write: () => T, hint?: string): T {
  try {
    return write();
  } catch (error) {
    throw systemError(path, "cannot be written", error, hint);
  }
}

/** Repeats what failed for a reason that may pass. */
async function retried<T>(
  url: string,
  { delaysMs = DELAYS_MS, hint }: DownloadOptions,
  attempt: () => Promise<T>,
): Promise<T> {
  for (let failures = 0;; failures++) {
    try {
      return await attempt();
    } catch (error) {
      // Of the disk or of Deno's permissions, not of the network.
      if (error instanceof LlmtsError || error instanceof Deno.errors.NotCapable) throw error;
      const delay = delaysMs[failures];
      if (delay === undefined || !mayPass(error)) throw downloadError(url, error, hint);
      await new Promise((resolve) => setTimeout(resolve, delay));
    }
  }
}

/** Refusals don't pass; a server that is busy, and whatever happens on the way, may. 416: the next try has no range. */
function mayPass(error: unknown): boolean {
  return !(error instanceof StatusError) || error.status >= 500 || [408, 416, 429].includes(error.status);
}

/** How a file differs from what the server said of it, or undefined. */
function contentProblem(path: string, { size, digest }: RemoteFile): string | undefined {
  using file = openForReading(path);
  const found = file.statSync().size;
  if (size !== undefined && found !== size) return `it has ${found} bytes, expected ${size}`;
  if (digest === undefined) return undefined;
  const hex = digest.algorithm === "sha256"
    ? hashFile(file, "sha256")
    : hashFile(file, "sha1", `blob ${found}\0`);
  return hex === digest.hex ? undefined : `its ${digest.algorithm} is ${hex}, expected ${digest.hex}`;
}
