import { assertEquals, assertLess, assertThrows } from "@std/assert";
import { LlmtsError } from "../../src/errors.ts";
import { cutBetweenPreTokens } from "../../src/io/bpe.ts";
import { bpeTokenizer, gpt2Tokenizer, streamDecoder } from "../../src/io/tokenizer.ts";

const tokenizer = await gpt2Tokenizer();

/** Ids computed with tiktoken (r50k_base, encode_ordinary), by what the report was about. */
const CASES: [about: string, text: string, ids: number[]][] = [
  ["special token", "<|endoftext|>", [27, 91, 437, 1659, 5239, 91, 29]],
  ["special token", "hello<|endoftext|>world", [31373, 27, 91, 437, 1659, 5239, 91, 29, 6894]],
  ["special token", "<|endoftext|", [27, 91, 437, 1659, 5239, 91]],
  ["special token", "<|ENDOFTEXT|>", [27, 91, 10619, 46, 9792, 13918, 91, 29]],
  ["newlines", "This is good.\n\n", [1212, 318, 922, 13, 628]],
  ["newlines", "This is good.\n\nBut in a way.", [1212, 318, 922, 13, 198, 198, 1537, 287, 257, 835, 13]],
  ["newlines", "\n", [198]],
  ["newlines", "\n\n\n", [628, 198]],
  ["newlines", "hello \n", [31373, 220, 198]],
  ["spaces", "  Hello World.", [220, 18435, 2159, 13]],
  ["spaces", "a  b", [64, 220, 275]],
  ["spaces", "a   b", [64, 220, 220, 275]],
  ["spaces", "hello ", [31373, 220]],
  ["spaces", "     ", [220, 220, 220, 220, 220]],
  ["spaces", "def f():\n    return  x", [4299, 277, 33529, 198, 220, 220, 220, 1441, 220, 2124]],
  ["spaces", "\t\tx", [197, 197, 87]],
  ["spaces", " \t \n x", [220, 197, 220, 198, 2124]],
  ["spaces", "a\n  b", [64, 198, 220, 275]],
  ["line ends", "a\r\nb", [64, 201, 198, 65]],
  ["line ends", "a\rb", [64, 201, 65]],
  ["line ends", "line one\r\n\r\nline two\r\n", [1370, 530, 201, 198, 201, 198, 1370, 734, 201, 198]],
  ["contractions", "I don't", [40, 836, 470]],
  ["contractions", "I DON'T", [40, 23917, 6, 51]],
  ["contractions", "WE'LL", [8845, 6, 3069]],
  ["contractions", "I don\u2019t", [40, 836, 447, 247, 83]],
  [
    "contractions",
    "we'll they've I'm he'd it's you're",
    [732, 1183, 484, 1053, 314, 1101, 339, 1549, 340, 338, 345, 821],
  ],
  ["contractions", "'tree", [470, 631]],
  ["contractions", "''s", [7061, 82]],
  ["contractions", "rock 'n' roll", [10823, 705, 77, 6, 4836]],
  ["quotes", "\u201cwrote jack a letter\u201d", [447, 250, 42910, 14509, 257, 3850, 447, 251]],
  [
    "quotes",
    "This is an example \u201csentence\u201c to try encoding out on!",
    [1212, 318, 281, 1672, 564, 250, 34086, 594, 447, 250, 284, 1949, 21004, 503, 319, 0],
  ],
  ["emoji", "hello \u{1F44B} world \u{1F30D}", [31373, 50169, 233, 995, 12520, 234, 235]],
  ["emoji", "\u{1F52D}", [8582, 242, 255]],
  ["emoji", "\u{1F44D}", [41840, 235]],
  [
    "emoji",
    "\u{1F468}\u200d\u{1F469}\u200d\u{1F467}\u200d\u{1F466}",
    [41840, 101, 447, 235, 41840, 102, 447, 235, 41840, 100, 447, 235, 41840, 99],
  ],
  ["emoji", "\u{1F1EB}\u{1F1EE}", [8582, 229, 104, 8582, 229, 106]],
  ["object keys", "toString", [1462, 10100]],
  ["object keys", "constructor", [41571, 273]],
  ["object keys", "__proto__", [834, 1676, 1462, 834]],
  ["object keys", "hasOwnProperty", [10134, 23858, 21746]],
  ["object keys", "some_code toString some_more_code", [
    11246,
    62,
    8189,
    284,
    10100,
    617,
    62,
    3549,
    62,
    8189,
  ]],
  ["control bytes", "a\0b", [64, 188, 65]],
  ["control bytes", "\0", [188]],
  ["control bytes", "\x01\x1f\x7f", [189, 219, 221]],
  ["scripts", "\u041f\u0440\u0438\u0432\u0435\u0442 \u043c\u0438\u0440", [
    ...[140, 253, 21169, 18849, 38857, 16843, 20375, 12466, 120, 18849, 21169],
  ]],
  ["scripts", "\u4f60\u597d\uff0c\u4e16\u754c", [
    19526,
    254,
    25001,
    121,
    171,
    120,
    234,
    10310,
    244,
    45911,
    234,
  ]],
  ["scripts", "e\u0301", [68, 136, 223]],
  ["scripts", "\u00e9", [2634]],
  ["numbers", "1234567890", [10163, 2231, 30924, 3829]],
  ["numbers", "3.14159, 1,000,000", [18, 13, 1415, 19707, 11, 352, 11, 830, 11, 830]],
  ["numbers", "x\u00b2\u00bd", [87, 31185, 23141]],
  ["numbers", "\u0663\u0664", [149, 96, 149, 97]],
  ["unusual spaces", "a\u00a0b", [64, 1849, 65]],
  ["unusual spaces", "a\u3000b", [64, 5099, 222, 65]],
  ["unusual spaces", "a\u200bb", [64, 9525, 65]],
  // JavaScript's \s takes U+FEFF for white space and U+0085 for none; Unicode, and so tiktoken, the other way round.
  ["unusual spaces", "a \ufeffb", [64, 27332, 119, 123, 65]],
  ["unusual spaces", "a \u0085b", [64, 220, 126, 227, 65]],
  ["unusual spaces", " \u0085 x", [1587, 227, 2124]],
  ["byte order mark", "\ufeffhello", [171, 119, 123, 31373]],
  ["rare token", " SolidGoldMagikarp", [43453]],
  ["empty", "", []],
];

Deno.test("encode() gives tiktoken's ids, decode() the text back", async (t) => {
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });
  for (const [about, text, ids] of CASES) {
    await t.step(`${about}: ${JSON.stringify(text)}`, () => {
      assertEquals(tokenizer.encode(text), ids);
      assertEquals(decoder.decode(tokenizer.decode(ids)), text);
    });
  }
});

Deno.test("encode() takes lone surrogates for U+FFFD", () => {
  assertEquals(tokenizer.encode("\ud83d"), [4210]);
  assertEquals(tokenizer.encode("x\udc4dy"), [87, 4210, 88]);
  assertEquals(tokenizer.encode("\ud83d\ud83d"), [6353]);
  assertEquals(tokenizer.encode("\ud83d\udc4d"), [41840, 235]);
});

/** A unit repeated, and the token that then repeats. */
const RUNS: [unit: string, times: number, id: number, tokens: number][] = [
  ["a", 10_000, 24794, 2500],
  ["^", 100_000, 39397, 25_000],
  [" ", 100_000, 220, 100_000],
  ["\u7684", 5000, 21410, 5000],
  ["7", 3000, 3324, 1500],
  ["ab", 3000, 397, 3000],
  ["^", 1_000_000, 39397, 250_000],
  ["\u7684", 1_000_000, 21410, 1_000_000],
];

Deno.test("encode() takes long runs without quadratic time or deep stacks", async (t) => {
  for (const [unit, times, id, tokens] of RUNS) {
    await t.step(`${JSON.stringify(unit)} × ${times}`, () => {
      const start = performance.now();
      const ids = tokenizer.encode(unit.repeat(times));
      assertLess(performance.now() - start, 20_000); // a quadratic merge of the longest takes hours
      assertEquals(ids.length, tokens);
      assertEquals(ids.filter((each) => each !== id), []);
    });
  }
  assertEquals(tokenizer.encode("=".repeat(100)), [23926, 10052, 1421]);
  assertEquals(tokenizer.encode("\n".repeat(101)).length, 51);
});

/** Runs that the pattern takes in several parts: what repeats, how often, what follows, and the ids of each. */
const LONGEST_RUNS: [
  start: string,
  unit: string,
  times: number,
  ids: number[],
  end: string,
  endIds: number[],
][] = [
  ["", "\u0378", 1_000_000, [137, 116], "'s", [6, 82]], // the apostrophe is a sign as those before it
  ["", "\u0378", 5_000_000, [137, 116], "'s", [6, 82]],
  ["", "\u{20000}", 5_000_000, [172, 254, 222, 222], "'s", [338]],
  ["", "\u0663", 5_000_000, [149, 96], "'s", [338]],
  ["x", "ab", 600_000, [397], " c", [269]], // a cut after a million characters would part an a from its b
];

Deno.test("encode() takes runs of millions of letters, numbers or signs as one pre-token each", async (t) => {
  for (const [start, unit, times, ids, end, endIds] of LONGEST_RUNS) {
    await t.step(`${JSON.stringify(unit)} × ${times}`, () => {
      const found = tokenizer.encode(start + unit.repeat(times) + end);
      const expectedStart = tokenizer.encode(start);
      assertEquals(found.splice(0, expectedStart.length), expectedStart);
      assertEquals(found.splice(-endIds.length), endIds);
      assertEquals(found.length, times * ids.length);
      assertEquals(found.findIndex((id, i) => id !== ids[i % ids.length]), -1);
    });
  }
});

Deno.test("gpt2Tokenizer() has GPT-2's 50257 tokens", () => {
  assertEquals([tokenizer.V, tokenizer.eot], [50257, 50256]);
  for (const word of [" the", " and", "ing", " SolidGoldMagikarp"]) {
    const [id, ...more] = tokenizer.encode(word);
    assertEquals(more, []);
    assertEquals(new TextDecoder().decode(tokenizer.decode([id!])), word);
  }
  assertEquals(new TextDecoder().decode(tokenizer.decode([50256])), "<|endoftext|>");
});

Deno.test("decode() leaves the space before a punctuation mark alone", () => {
  assertEquals(new TextDecoder().decode(tokenizer.decode([764, 837, 5145, 5633])), " . , ! ?");
});

Deno.test("decode() refuses an id outside the vocabulary", () => {
  for (const id of [50257, -1, 0.5, NaN]) {
    assertThrows(() => tokenizer.decode([15496, id]), LlmtsError, `Token id ${id} cannot be decoded`);
  }
});

Deno.test("encode() names a byte that the vocabulary lacks", () => {
  const small = bpeTokenizer(["a", "b", "ab", "<|endoftext|>"], 3);
  assertEquals(small.encode("abba"), [2, 1, 0]);
  assertThrows(() => small.encode("abc"), LlmtsError, "The vocabulary has no token for byte 99");
});

Deno.test("streamDecoder() holds a character back until its last token", () => {
  const stream = streamDecoder(tokenizer);
  assertEquals([41840, 235, 0].map((id) => stream.push(id)), ["", "\u{1F44D}", "!"]);
  assertEquals(stream.end(), "");

  const text = "\ufeffna\u00efve \u4f60\u597d \u{1F468}\u200d\u{1F469} \u201cend\u201d";
  const pieces = tokenizer.encode(text).map((id) => stream.push(id));
  assertEquals(pieces.join("") + stream.end(), text);
  assertEquals(pieces.filter((piece) => piece.includes("\ufffd")), []);
});

Deno.test("streamDecoder() gives U+FFFD for bytes that make up no character, and control characters as they are", () => {
  const stream = streamDecoder(tokenizer);
  // The byte F0 before "!", the byte 80 on its own, then NUL, 1 and 127.
  assertEquals([172, 0, 222].map((id) => stream.push(id)), ["", "\ufffd!", "\ufffd"]);
  assertEquals([188, 189, 221].map((id) => stream.push(id)), ["\0", "\x01", "\x7f"]);
});

Deno.test("streamDecoder() ends an unfinished character as U+FFFD", () => {
  const stream = streamDecoder(tokenizer);
  assertEquals(stream.push(41840), "");
  assertEquals(stream.end(), "\ufffd");
  assertEquals(stream.push(0), "!"); // and starts afresh
});

Deno.test("cutBetweenPreTokens() gives pieces whose ids are those of the whole, wherever the text was cut", () => {
  const text = "I don't  know,\n\n we'll  see \u{1F44D}\t 12'3 it's\u3000over.  \n \u0085end  " +
    "don't,we'll'see;12's(a'b)x\u{20000}y7\u{20001}\u0663\u{1D7D8}\u{1D7D9}'re\u4f60\uff0c\u597d''s1'll\u{1F44D}a\u{1F44D}";
  const whole = tokenizer.encode(text);
  const characters = [...text];
  for (let size = 1; size <= characters.length; size++) {
    const pieces: string[] = [];
    for (let i = 0; i < characters.length; i += size) pieces.push(characters.slice(i, i + size).join(""));
    const cut = [...cutBetweenPreTokens(pieces)];
    assertEquals(cut.join(""), text);
    assertEquals(cut.flatMap((piece) => tokenizer.encode(piece)), whole, `pieces of ${size} characters`);
  }
});

Deno.test("cutBetweenPreTokens() cuts text without white space too", () => {
  assertEquals([...cutBetweenPreTokens(["ab1,", "cd=", "'s", "12"])], ["ab1", ",cd", "='s", "12"]);
  assertEquals([...cutBetweenPreTokens(["x\ud840", "\udc00y,"])], ["x\u{20000}y", ","]); // one letter, in halves
});

Deno.test("a run that is too long to be merged is refused, and said where it starts", () => {
  const message = "The text has more than 67108864 letters, numbers, signs or spaces in a row, from";
  const piece = "ACGT".repeat(2 ** 20);
  assertThrows(
    () => [...cutBetweenPreTokens(["x=", ...new Array(17).fill(piece)])],
    LlmtsError,
    `${message} "=ACGTA`,
  );
  assertThrows(() => tokenizer.encode(`x =\n${piece.repeat(16)}A`), LlmtsError, `${message} "ACGTA`);
});
