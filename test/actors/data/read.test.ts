import { describe, expect, test } from "bun:test";
import { BITMAPS } from "../../../actors/data/bitmap.ts";
import { type DataKind, readData } from "../../../actors/data/read.ts";
import { idxFile, memoryFiles, netpbmFile, noise, refusal } from "./memory.ts";

const idx = {
  "d/t10k-images-idx3-ubyte": idxFile([10, 2, 2], noise(40, 1)),
  "d/t10k-labels-idx1-ubyte": idxFile(
    [10],
    Uint8Array.from({ length: 10 }, (_, i) => i),
  ),
};
const grey = netpbmFile(1, 2, Uint8Array.of(7, 9));
const cifar = Uint8Array.from([3, ...noise(3072, 1), 4, ...noise(3072, 2)]);
const csv = "1,a\n2,b\n3,a\n";

const read = (content: Record<string, Uint8Array | string>, path: string, ...wanted: DataKind[]) =>
  readData(memoryFiles(content), path, { wanted, formats: BITMAPS, size: 8, label: null });

describe("what a path holds is recognised", () => {
  const cases: [string, Record<string, Uint8Array | string>, string, RegExp][] = [
    ["IDX beside text", { ...idx, "d/prose.txt": "hello" }, "d", /^images: IDX images in d \(t10k/],
    ["IDX by one of its files", { ...idx }, "d/t10k-images-idx3-ubyte", /^images: IDX images in d/],
    ["CIFAR", { "d/data_batch_1.bin": cifar }, "d", /^images: CIFAR-10 in d/],
    [
      "CIFAR as unpacked",
      { "d/cifar-10-batches-bin/data_batch_1.bin": cifar },
      "d",
      /^images: CIFAR-10 in d\/cifar/,
    ],
    ["class folders", { "d/a/1.pgm": grey, "d/b/1.pgm": grey }, "d", /^images: 2 images of 2 classes in d/],
    ["a CSV file", { "d/x.csv": csv }, "d/x.csv", /^table: a table of 3 rows in d\/x.csv/],
    ["a folder with a CSV file", { "d/x.csv": csv, "d/y.md": "hello" }, "d", /^table: .*d\/x.csv/],
    ["a text file of any name", { "d/corpus": "hello" }, "d/corpus", /^text: d\/corpus/],
    ["a folder with a text file", { "d/x.txt": "hello" }, "d", /^text: d\/x.txt/],
  ];
  test.each(cases)("%s", async (_, content, path, expected) => {
    const data = await read(content, path, "images", "table", "text");
    expect(`${data.kind}: ${data.name}`).toMatch(expected);
  });

  test("what is wanted decides", async () => {
    const both = { ...idx, "d/prose.txt": "hello" };
    expect((await read(both, "d", "text")).kind).toBe("text");
    expect((await read(both, "d", "table", "images")).kind).toBe("images");
  });
});

describe("what is wrong is said in one line: what was found, what would be right", () => {
  test.each([
    [
      "another kind",
      { "d/x.txt": "hello" },
      "d/x.txt",
      /d\/x.txt: it holds text \(d\/x.txt\); what is wanted: images are IDX/,
    ],
    ["nothing", { "d/x.pdf": "" }, "d", /d: it holds nothing to learn from; what is wanted: images/],
    ["no such path", {}, "d", /d: there is no such file or folder/],
    [
      "two of a kind",
      { ...idx, "d/data_batch_1.bin": cifar },
      "d",
      /d: it holds IDX images .* and CIFAR's .*; name one/,
    ],
  ])("%s", async (_, content: Record<string, Uint8Array | string>, path, message) => {
    expect(await refusal(read(content, path, "images"))).toMatch(message);
  });
});
