import { assertEquals } from "@std/assert";
import { openLog, openText } from "../../commands/output.ts";

function written(): { pieces: string[]; write: (text: string) => void } {
  const pieces: string[] = [];
  return { pieces, write: (text) => void pieces.push(text) };
}

Deno.test("openLog() writes progress in place on a terminal, cut to its width", () => {
  const { pieces, write } = written();
  const log = openLog(() => 12, write);
  log.progress("step 1");
  log.progress("step 2 is far too long");
  log.line("val loss 1");
  log.line("again");
  log.end();
  assertEquals(pieces.join(""), "\rstep 1\x1b[K\rstep 2 is f\x1b[K\nval loss 1\nagain\n");
});

Deno.test("openLog() writes plain lines elsewhere", () => {
  const { pieces, write } = written();
  const log = openLog(() => undefined, write);
  log.progress("step 1");
  log.progress("step 2");
  log.line("val loss 1");
  log.end();
  assertEquals(pieces.join(""), "step 1\nstep 2\nval loss 1\n");
});

Deno.test("openLog() asks for the terminal's width each time", () => {
  const { pieces, write } = written();
  let width: number | undefined = 12;
  const log = openLog(() => width, write);
  assertEquals(log.columns(), 11);
  log.progress("step 1 is long");
  width = 8;
  assertEquals(log.columns(), 7);
  log.progress("step 2 is long");
  width = undefined;
  assertEquals(log.columns(), Infinity);
  assertEquals(pieces.join(""), "\rstep 1 is l\x1b[K\rstep 2 \x1b[K");
});

Deno.test("openText() writes each piece on a terminal, whole lines elsewhere", () => {
  const terminal = written();
  const pipe = written();
  for (const [stream, isTerminal] of [[terminal, true], [pipe, false]] as const) {
    const text = openText(isTerminal, stream.write);
    for (const piece of ["a", "b\nc", "", "d\n\n", "e"]) text.write(piece);
    text.flush();
    text.flush();
  }
  assertEquals(terminal.pieces, ["a", "b\nc", "d\n\n", "e"]);
  assertEquals(pipe.pieces, ["ab\n", "cd\n\n", "e"]);

  const long = written();
  const text = openText(false, long.write);
  for (let i = 0; i < 1500; i++) text.write("x");
  assertEquals(long.pieces, ["x".repeat(1025)]);
});
