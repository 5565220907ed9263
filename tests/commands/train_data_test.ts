import { assertEquals, assertRejects } from "@std/assert";
import { join } from "@std/path";
import { chooseData, dataFiles, type DataFlags, type TrainingData } from "../../commands/train_data.ts";
import { FileError, UsageError } from "../../src/errors.ts";
import { assetPath } from "../../src/io/assets.ts";
import { inFolder } from "../folder.ts";

/** Without the names, which are the same for all but the built-in corpus. */
async function choose(flags: DataFlags): Promise<Omit<TrainingData, "names">> {
  const { names, ...chosen } = await chooseData(flags);
  assertEquals([names.data, names.valData ?? []], [chosen.train, chosen.val]);
  return chosen;
}

Deno.test("chooseData() finds the validation file that is named alike", async () => {
  await inFolder(async (folder) => {
    const data = join(folder, "train", "my_train_set_train.bin");
    const none = { train: [data], val: [], note: "no validation: there is no --val-data" };
    assertEquals(await choose({ data, valData: undefined }), none);
    Deno.mkdirSync(join(folder, "train"));
    const val = join(folder, "train", "my_train_set_val.bin");
    Deno.writeTextFileSync(val, "");
    assertEquals(await choose({ data, valData: undefined }), {
      train: [data],
      val: [val],
      note: `validation data: ${val}`,
    });
  });
});

Deno.test("chooseData() takes what it is given, and says where both share a file (A-21)", async () => {
  await inFolder(async (folder) => {
    const [a, b] = ["a.bin", "b.bin"].map((name) => join(folder, name)) as [string, string];
    for (const path of [a, b]) Deno.writeTextFileSync(path, "");
    assertEquals(await choose({ data: a, valData: b }), { train: [a], val: [b], note: undefined });
    const same = join(folder, ".", "a.bin");
    assertEquals(await choose({ data: `${a},${b}`, valData: same }), {
      train: [a, b],
      val: [same],
      note: `validation uses training data: ${same}`,
    });
  });
});

Deno.test("chooseData() takes patterns and lists of files, and a name with a comma as it is (A-22)", async () => {
  await inFolder(async (folder) => {
    const at = (name: string): string => join(folder, name);
    for (const name of ["x_train_1.bin", "x_train_0.bin", "x_val_0.bin", "a,b.bin", "c [1].bin"]) {
      Deno.writeTextFileSync(at(name), "");
    }
    assertEquals(await choose({ data: at("x_train_*.bin"), valData: undefined }), {
      train: [at("x_train_0.bin"), at("x_train_1.bin")],
      val: [at("x_val_0.bin")],
      note: `validation data: ${at("x_val_0.bin")}`,
    });
    const train = async (data: string): Promise<readonly string[]> =>
      (await choose({ data, valData: at("x_val_0.bin") })).train;
    assertEquals(await train(at("a,b.bin")), [at("a,b.bin")]);
    assertEquals(await train(at("c [1].bin")), [at("c [1].bin")]);
    assertEquals(await train(`${at("c [1].bin")},${at("x_train_1.bin")}`), [
      at("c [1].bin"),
      at("x_train_1.bin"),
    ]);
    const both = [at("x_train_0.bin"), at("x_train_1.bin")];
    assertEquals(await train(at("x_train_{0,1}.bin")), both);
    assertEquals(await train(`${at("a,b.bin").replace(",", "?")},${at("x_{no,train_{0,1},none}.bin")}`), [
      at("a,b.bin"),
      ...both,
    ]);
    await assertRejects(() => train(at("y_*.bin")), FileError, "no file matches this pattern");
  });
});

Deno.test("chooseData() looks beside each file of a list, and says which has no validation file", async () => {
  await inFolder(async (folder) => {
    const [a, b, c, d] = ["a_train.bin", "b_train_0.bin", "b_train_1.bin", "d.bin"].map((name) =>
      join(folder, name)
    );
    const [aVal, bVal] = ["a_val.bin", "b_val_0.bin"].map((name) => join(folder, name));
    for (const path of [a, b, c, d, aVal, bVal]) Deno.writeTextFileSync(path!, "");
    const beside = (data: string): Promise<unknown> => choose({ data, valData: undefined });
    assertEquals(await beside(`${join(folder, "b_train_*.bin")},${a}`), {
      train: [a, b, c],
      val: [aVal, bVal],
      note: `validation data: ${aVal}, ${bVal}`,
    });
    assertEquals(await beside(`${a},${c},${d}`), {
      train: [a, c, d],
      val: [aVal],
      note: `validation data: ${aVal}; none beside ${c}, ${d}`,
    });
    assertEquals(await beside(`${c},${d}`), {
      train: [c, d],
      val: [],
      note: "no validation: there is no --val-data",
    });
    assertEquals(await beside(`${a},${aVal}`), {
      train: [a, aVal],
      val: [aVal],
      note: `validation data: ${aVal}; none beside ${aVal}; validation uses training data: ${aVal}`,
    });
  });
});

Deno.test("chooseData() refuses a list with an empty name", async () => {
  for (const data of ["", "a.bin,", ",a.bin", "a.bin, ,b.bin"]) {
    const message = `The list of files "${data}" has an empty name`;
    await assertRejects(() => chooseData({ data, valData: "a.bin" }), UsageError, message);
    await assertRejects(() => chooseData({ data: "a.bin", valData: data }), UsageError, message);
  }
});

Deno.test("chooseData() takes the built-in corpus by its name, and by a path that it had and has no more", async () => {
  await inFolder(async (folder) => {
    const [train, val] = [assetPath("moby_dick_train.bin"), assetPath("moby_dick_val.bin")];
    const names = { data: ["built-in:moby_dick_train.bin"], valData: ["built-in:moby_dick_val.bin"] };
    const note = "validation data: built-in:moby_dick_val.bin";
    const old = join(folder, "assets", "moby_dick_train.bin");
    for (const data of [names.data[0]!, old]) {
      assertEquals(await chooseData({ data, valData: undefined }), {
        train: [train],
        val: [val],
        note,
        names,
      });
    }
    assertEquals(dataFiles([old]), [train]);
    Deno.mkdirSync(join(folder, "assets"));
    Deno.writeTextFileSync(old, "");
    assertEquals(dataFiles([old]), [old]);
    assertEquals(dataFiles("assets/moby_dick_train.bin"), ["assets/moby_dick_train.bin"]);
    const error = await assertRejects(
      () => choose({ data: "built-in:moby.bin", valData: undefined }),
      UsageError,
    );
    assertEquals(
      error.message,
      '"built-in:moby.bin" is not built in, expected built-in:moby_dick_train.bin or built-in:moby_dick_val.bin',
    );
  });
});
