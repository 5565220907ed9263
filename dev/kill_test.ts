/**
 * Kills a training run 50 times, or as often as the argument says, at random moments, and checks that it goes on each time and
 * ends with the bits of an undisturbed run. The tests do the same with 10.
 *
 * @module
 */
import { survivesKills } from "../tests/commands/kill.ts";

if (import.meta.main) {
  const [argument = "50"] = Deno.args;
  if (!/^[1-9]\d*$/.test(argument)) {
    console.error(`The number of kills is "${argument}", expected a whole number of at least 1`);
    Deno.exit(2);
  }
  const compared = await survivesKills(Number(argument));
  console.log(`${argument} kills, every run went on: ${compared} ended with the bits of an undisturbed one`);
}
