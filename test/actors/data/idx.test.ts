import { describe, expect, test } from "bun:test";
import { DataError } from "../../../actors/data/error.ts";
import { decodeIdx, readIdx } from "../../../actors/data/idx.ts";
import { idxFile, memoryFiles, noise, refusal } from "./memory.ts";

const pixels = noise(12 * 6, 1);
const labels = Uint8Array.from({ length: 12 }, (_, i) => i % 3);
const images = idxFile([12, 3, 2], pixels);
const answers = idxFile([12], labels);

const read = (content: Record<string, Uint8Array>) => {
  const named = Object.fromEntries(Object.entries(content).map(([name, bytes]) => [`d/${name}`, bytes]));
  return readIdx(memoryFiles(named), "d", Object.keys(content));
};

test("a training and a test pair are learned from and validated on, packed or not", async () => {
  const data = await read({
    "train-images-idx3-ubyte": images,
    "train-labels-idx1-ubyte.gz": Bun.gzipSync(answers as Uint8Array<ArrayBuffer>),
    "t10k-images.idx3-ubyte": idxFile([2, 3, 2], noise(12, 2)),
    "t10k-labels.idx1-ubyte": idxFile([2], Uint8Array.of(3, 0)),
  });
  expect([data.train.count, data.validation.count, data.channels, data.size]).toEqual([12, 2, 1, 2]);
  expect(data.classes).toEqual(["0", "1", "2", "3"]);
  expect(data.train.picture(5)).toEqual({
    width: 2,
    height: 3,
    channels: 1,
    pixels: pixels.subarray(30, 36),
  });
  expect(data.train.label(5)).toBe(2);
  expect(data.validation.label(0)).toBe(3);
});

test("one pair is shared: no image is learned from and validated on", async () => {
  const data = await read({ "x-t10k-images-idx3-ubyte": images, "x-t10k-labels-idx1-ubyte": answers });
  const texts = ({ count, picture }: typeof data.train) =>
    Array.from({ length: count }, (_, i) => picture(i).pixels.join());
  expect(data.validation.count).toBe(1);
  expect([...texts(data.train), ...texts(data.validation)].sort()).toEqual(
    Array.from({ length: 12 }, (_, i) => pixels.subarray(6 * i, 6 * i + 6).join()).sort(),
  );
});

describe("what is wrong is said in one line", () => {
  const cases: [string, Record<string, Uint8Array>, RegExp][] = [
    [
      "no labels",
      { "a-images-idx3-ubyte": images },
      /a-images-idx3-ubyte: its labels are not beside it: a-labels/,
    ],
    [
      "a truncated file",
      { "a-images-idx3-ubyte": images.subarray(0, 50), "a-labels-idx1-ubyte": answers },
      /a-images-idx3-ubyte: its header says \[12,3,2\], 72 bytes, and 34 follow/,
    ],
    [
      "a damaged gzip file",
      {
        "a-images-idx3-ubyte.gz": Bun.gzipSync(images as Uint8Array<ArrayBuffer>).subarray(0, 40),
        "a-labels-idx1-ubyte": answers,
      },
      /a-images-idx3-ubyte.gz: the gzip file is damaged/,
    ],
    [
      "labels of another number",
      { "a-images-idx3-ubyte": images, "a-labels-idx1-ubyte": idxFile([11], labels.subarray(1)) },
      /a-labels-idx1-ubyte: it holds \[11\], and a-images-idx3-ubyte 12 images/,
    ],
    [
      "two training pairs",
      { "a-images-idx3-ubyte": images, "b-images-idx3-ubyte": images, "a-labels-idx1-ubyte": answers },
      /a-images-idx3-ubyte and b-images-idx3-ubyte are both IDX images for training/,
    ],
  ];
  test.each(cases)("%s", async (_, content, message) => {
    expect(await refusal(read(content))).toMatch(message);
  });

  test("no IDX at all, or other elements than bytes", () => {
    expect(() => decodeIdx(new TextEncoder().encode("<html>"), "x")).toThrow(DataError);
    expect(() => decodeIdx(new Uint8Array(2), "x")).toThrow(/x: it does not begin as an IDX file/);
    expect(() => decodeIdx(Uint8Array.of(0, 0, 13, 1, 0, 0, 0, 0), "x")).toThrow(
      /elements are of IDX type 13/,
    );
  });
});
