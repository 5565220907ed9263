import { assertEquals } from "@std/assert";
import { join } from "@std/path";
import { chooseData } from "../../commands/train_data.ts";
import { inFolder } from "../folder.ts";

Deno.test("chooseData() finds the validation file that is named alike", async () => {
  await inFolder(async (folder) => {
    const data = join(folder, "train", "my_train_set_train.bin");
    const none = { train: data, val: undefined, note: "no validation: there is no --val-data" };
    assertEquals(await chooseData({ data, valData: undefined }), none);
    Deno.mkdirSync(join(folder, "train"));
    const val = join(folder, "train", "my_train_set_val.bin");
    Deno.writeTextFileSync(val, "");
    assertEquals(await chooseData({ data, valData: undefined }), {
      train: data,
      val,
      note: `validation data: ${val}`,
    });
  });
});

Deno.test("chooseData() takes what it is given, and says where both are one", async () => {
  assertEquals(await chooseData({ data: "a.bin", valData: "b.bin" }), {
    train: "a.bin",
    val: "b.bin",
    note: undefined,
  });
  assertEquals(await chooseData({ data: "a.bin", valData: "./a.bin" }), {
    train: "a.bin",
    val: "./a.bin",
    note: "validation uses the training data",
  });
});
