import { describe, expect, test } from "bun:test";
import { BITMAPS, bmp, netpbm } from "../../../actors/data/bitmap.ts";
import { decodePicture, findClasses, readFolder } from "../../../actors/data/folder.ts";
import { memoryFiles, netpbmFile, noise, refusal } from "./memory.ts";

const red = netpbmFile(2, 1, Uint8Array.of(255, 0, 0, 250, 1, 2));
const grey = netpbmFile(1, 2, Uint8Array.of(7, 9));

async function read(content: Record<string, Uint8Array | string>, size = 8) {
  const files = memoryFiles(content);
  const found = await findClasses(files, "d", BITMAPS);
  return readFolder(files, "d", found!, { formats: BITMAPS, size });
}

describe("pictures", () => {
  test("PPM is turned into planes", () => {
    expect(netpbm.decode(red)).toEqual({
      width: 2,
      height: 1,
      channels: 3,
      pixels: Uint8Array.of(255, 250, 0, 1, 0, 2),
    });
  });

  test("PGM with another largest value is scaled to bytes", () => {
    const file = new TextEncoder().encode("P5 2 1 15\n\x00\x0f");
    expect([...netpbm.decode(file).pixels]).toEqual([0, 255]);
  });

  test("BMP, whose rows are padded and count from the bottom", () => {
    const file = new Uint8Array(54 + 2 * 8);
    const view = new DataView(file.buffer);
    file.set([0x42, 0x4d]);
    view.setUint32(10, 54, true);
    view.setUint32(14, 40, true);
    view.setInt32(18, 2, true);
    view.setInt32(22, 2, true);
    view.setUint16(28, 24, true);
    file.set([1, 2, 3, 4, 5, 6], 54);
    file.set([7, 8, 9, 10, 11, 12], 62);
    expect(bmp.decode(file)).toEqual({
      width: 2,
      height: 2,
      channels: 3,
      pixels: Uint8Array.of(9, 12, 3, 6, 8, 11, 2, 5, 7, 10, 1, 4),
    });
    expect(() => bmp.decode(file.subarray(0, 60))).toThrow(/2x2 pixels take 16 bytes, 6 follow/);
  });

  test("what is wrong is said with the file", () => {
    const decode = (bytes: Uint8Array) => () => decodePicture(bytes, "a.ppm", BITMAPS);
    expect(decode(red.subarray(0, red.length - 1))).toThrow(
      /a.ppm: it is no PGM\/PPM picture .*6 bytes, 5 follow/,
    );
    expect(decode(new TextEncoder().encode("GIF89a"))).toThrow(/a.ppm: its content is none of PGM\/PPM, BMP/);
    expect(decode(new TextEncoder().encode("P3 1 1 255 1 2 3"))).toThrow(/binary forms P5 and P6/);
    expect(decode(new TextEncoder().encode("P6\nx"))).toThrow(/its header has no width/);
    expect(decode(new TextEncoder().encode("P5 99999999 99999999 255\n"))).toThrow(/follow its header/);
  });
});

test("a class is a folder; classes go by name; grey pictures among coloured ones get three channels", async () => {
  const data = await read({
    "d/b/1.ppm": red,
    "d/a/2.PGM": grey,
    "d/a/1.pgm": grey,
    "d/a/.hidden.pgm": "no picture",
    "d/a/notes.txt": "no picture",
    "d/readme.txt": "no class",
  });
  expect([data.classes, data.channels, data.size]).toEqual([["a", "b"], 3, 1]);
  expect(data.train.count + data.validation.count).toBe(3);
  const all = [data.train, data.validation].flatMap((part) =>
    Array.from({ length: part.count }, (_, i) => `${part.label(i)}:${part.picture(i).pixels}`),
  );
  expect(all.sort()).toEqual(["0:7,9,7,9,7,9", "0:7,9,7,9,7,9", "1:255,250,0,1,0,2"]);
});

test("training and validation parts that are there are kept apart", async () => {
  const data = await read({
    "d/train/a/1.pgm": grey,
    "d/train/b/1.pgm": grey,
    "d/val/b/1.pgm": netpbmFile(1, 2, Uint8Array.of(1, 2)),
  });
  expect([data.train.count, data.validation.count, data.channels]).toEqual([2, 1, 1]);
  expect(data.validation.label(0)).toBe(1);
});

test("pictures that are larger than asked for are brought down while they are read", async () => {
  const large = netpbmFile(12, 20, noise(240, 1));
  const data = await read({ "d/a/1.pgm": large, "d/b/1.pgm": grey }, 6);
  expect(data.size).toBe(1);
  const sizes = [data.train, data.validation].map(({ picture }) => picture(0).width);
  expect(sizes.sort()).toEqual([1, 6]);
});

describe("what is wrong is said in one line", () => {
  test.each([
    ["one class", { "d/a/1.pgm": grey }, /d: pictures are in the folder "a" only/],
    [
      "a class that is validated on only",
      { "d/train/a/1.pgm": grey, "d/train/b/1.pgm": grey, "d/test/c/1.pgm": grey },
      /the class "c" is in the validation part only/,
    ],
    [
      "a damaged picture",
      { "d/a/1.pgm": grey, "d/b/1.pgm": "P5 9 9 255\n" },
      /d\/b\/1.pgm: it is no PGM\/PPM/,
    ],
  ])("%s", async (_, content, message) => {
    expect(await refusal(read(content))).toMatch(message);
  });

  test("a folder without pictures has no classes", async () => {
    expect(await findClasses(memoryFiles({ "d/a/x.txt": "" }), "d", BITMAPS)).toBeNull();
  });
});
