/**
 * Requests over HTTP, and their failures in words.
 *
 * @module
 */
import { LlmtsError } from "../errors.ts";

/** A server's answer that is no success. */
export class StatusError extends Error {
  override name = "StatusError";

  constructor(readonly status: number, statusText: string) {
    const secret = status === 401 || status === 403 ? ": there is no such file, or it is not public" : "";
    super(`the server answered ${`${status} ${statusText}`.trim()}${secret}`);
  }
}

/** The response, if it is a success. @throws {StatusError} it is not */
export async function requireOk(response: Response): Promise<Response> {
  if (response.ok) return response;
  await response.body?.cancel();
  throw new StatusError(response.status, response.statusText);
}

/** A failed download as an error for the user. */
export function downloadError(url: string, error: unknown, hint: string): LlmtsError {
  const { message } = ((error as Error).cause ?? error) as Error; // fetch keeps the reason in the cause
  return new LlmtsError(`"${url}" cannot be downloaded: ${message}`, { hint, cause: error });
}
