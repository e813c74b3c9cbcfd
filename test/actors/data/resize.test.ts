import { describe, expect, test } from "bun:test";
import type { Picture } from "../../../actors/data/picture.ts";
import { resized, squared } from "../../../actors/data/resize.ts";
import { threefry2x32 } from "../../../nn/models/threefry.ts";
import fixture from "../../fixtures/vision.json";
import { noise } from "./memory.ts";

/** As in the fixture's script. */
function picture(width: number, height: number): Picture {
  const words = new Uint32Array(2);
  const pixels = Uint8Array.from({ length: width * height }, (_, i) => {
    threefry2x32(4, width, i, height, words);
    return words[0]! >>> 24;
  });
  return { width, height, channels: 1, pixels };
}

describe("has PyTorch's bilinear pixels", () => {
  test.each(fixture.resized.map((entry) => [`${entry.from} to ${entry.to}`, entry] as const))(
    "%s",
    (_, entry) => {
      const [width, height] = entry.to as [number, number];
      const result = resized(picture(entry.from[0]!, entry.from[1]!), width, height);
      expect([result.width, result.height, result.pixels.length]).toEqual([width, height, width * height]);
      // Half a level for rounding to bytes.
      result.pixels.forEach((pixel, i) => {
        expect(Math.abs(pixel - entry.pixels[i]!)).toBeLessThan(0.52);
      });
    },
  );
});

test("a picture of one colour keeps it, to the last level, at any size and in every channel", () => {
  const pixels = Uint8Array.from({ length: 3 * 35 }, (_, i) => [255, 0, 77][Math.floor(i / 35)]!);
  for (const [width, height] of [
    [1, 1],
    [3, 8],
    [50, 41],
  ] as const) {
    const result = resized({ width: 7, height: 5, channels: 3, pixels }, width, height);
    const area = width * height;
    result.pixels.forEach((pixel, i) => {
      expect(pixel).toBe([255, 0, 77][Math.floor(i / area)]!);
    });
  }
});

test("a picture that has the size is given as it is", () => {
  const own = picture(4, 4);
  expect(resized(own, 4, 4)).toBe(own);
  expect(squared(own, 4)).toBe(own);
});

test("the middle square is taken, whichever side is longer", () => {
  const wide: Picture = { width: 7, height: 3, channels: 2, pixels: noise(42, 1) };
  const row = (from: Picture, c: number, y: number, x: number) =>
    [...from.pixels.subarray((c * from.height + y) * from.width + x)].slice(0, 3);
  const middle = squared(wide, 3);
  expect([middle.width, middle.height, middle.pixels.length]).toEqual([3, 3, 18]);
  for (const c of [0, 1]) for (const y of [0, 1, 2]) expect(row(middle, c, y, 0)).toEqual(row(wide, c, y, 2));
  const tall: Picture = { width: 3, height: 7, channels: 1, pixels: noise(21, 1) };
  expect([...squared(tall, 3).pixels]).toEqual([...tall.pixels.subarray(6, 15)]);
});

test("the shorter side is brought to the size", () => {
  const { width, height } = squared(picture(40, 30), 8);
  expect([width, height]).toEqual([8, 8]);
  const strip = squared(picture(9, 1), 4);
  expect(strip.pixels).toHaveLength(16);
});
