/**
 * Writes data/tiny_shakespeare_train.bin and data/tiny_shakespeare_val.bin. The same as `llmts data tinyshakespeare`,
 * with the same flags:
 *
 *     deno run -A dev/data/tinyshakespeare.ts [--input FILE] [--out DIR]
 *
 * @module
 */
import { COMMANDS } from "../../cli.ts";
import { dispatch } from "../../commands/dispatch.ts";
import config from "../../deno.json" with { type: "json" };

Deno.exitCode = await dispatch(COMMANDS, config.version, ["data", "tinyshakespeare", ...Deno.args]);
