/**
 * Errors that a user can act on. They end a command with one line (what, where), a hint (what to do) and an exit
 * code; everything else is a bug and keeps its stack trace.
 *
 * @module
 */

/** A failure with a message for the user and, where there is one, the command or flag that fixes it. */
export class LlmtsError extends Error {
  override name = "LlmtsError";
  /** What to do about it, or undefined. */
  readonly hint: string | undefined;

  constructor(message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.hint = options.hint;
  }
}

/** The command line itself is wrong: exit code 2, where other failures exit with 1. */
export class UsageError extends LlmtsError {
  override name = "UsageError";
}

/** Training has diverged: the loss or the gradients are not finite. */
export class DivergenceError extends LlmtsError {
  override name = "DivergenceError";
}

/** What to do about a model that computes what is no number. */
export const BROKEN_HINT =
  "some of the model's weights are not finite or too large: take an earlier checkpoint";

/** A file that is missing, damaged or of another format than expected. */
export class FileError extends LlmtsError {
  override name = "FileError";

  constructor(readonly path: string, message: string, options: { hint?: string; cause?: unknown } = {}) {
    super(`"${path}": ${message}`, options);
  }
}
