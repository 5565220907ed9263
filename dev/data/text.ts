/**
 * Writes data/NAME_train.bin and data/NAME_val.bin from UTF-8 text files. The same as `llmts data`, with the same flags:
 *
 *     deno run -A dev/data/text.ts FILE… [--name NAME] [--out DIR]
 *
 * @module
 */
import { COMMANDS } from "../../cli.ts";
import { dispatch } from "../../commands/dispatch.ts";
import config from "../../deno.json" with { type: "json" };

Deno.exitCode = await dispatch(COMMANDS, config.version, ["data", ...Deno.args]);
