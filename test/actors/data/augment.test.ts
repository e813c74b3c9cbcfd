import { describe, expect, test } from "bun:test";
import { type Augmentations, NO_AUGMENTATION, writeSample } from "../../../actors/data/augment.ts";
import type { Picture } from "../../../actors/data/picture.ts";
import { noise } from "./memory.ts";

const SIDE = 6;
const PLANE = SIDE * SIDE;
const picture: Picture = { width: SIDE, height: SIDE, channels: 3, pixels: noise(3 * PLANE, 4) };
const PLAIN = { mean: [0, 0, 0], std: [1, 1, 1] };

const augmented = (augment: Partial<Augmentations>, step: number, seed = 1, sample = 0, of = picture) => {
  const out = new Float32Array(of.pixels.length).fill(Number.NaN);
  writeSample(of, out, PLAIN, { ...NO_AUGMENTATION, ...augment }, { seed, step, sample });
  return out;
};
const unit = Float32Array.from(picture.pixels, (byte) => byte / 255);
const ALL: Augmentations = { crop: 2, flip: true, brightness: 0.4, contrast: 0.4, cutout: 3 };
const steps = Array.from({ length: 60 }, (_, i) => i);
const at = (values: Float32Array, x: number, y: number) =>
  [0, 1, 2].map((c) => values[c * PLANE + y * SIDE + x]);

test("without augmentation a sample is its bytes over 255, normalised by channel", () => {
  expect(augmented({}, 0)).toEqual(unit);
  const out = new Float32Array(3 * PLANE);
  writeSample(picture, out, { mean: [0.5, 0.25, 0], std: [0.5, 1, 2] }, ALL, null);
  expect(out[7]).toBeCloseTo((unit[7]! - 0.5) / 0.5, 6);
  expect(out[PLANE + 7]).toBeCloseTo(unit[PLANE + 7]! - 0.25, 6);
  expect(out[2 * PLANE + 7]).toBeCloseTo(unit[2 * PLANE + 7]! / 2, 6);
});

test("the same seed, step and sample give the same bytes, any other different ones", () => {
  const one = augmented(ALL, 3, 1, 2);
  expect(augmented(ALL, 3, 1, 2)).toEqual(one);
  for (const other of [augmented(ALL, 4, 1, 2), augmented(ALL, 3, 2, 2), augmented(ALL, 3, 1, 3)]) {
    expect(other).not.toEqual(one);
  }
});

test("turning one augmentation on leaves the others' draws as they were", () => {
  for (const step of steps.slice(0, 10)) {
    const flipped = augmented({ flip: true, crop: 0 }, step);
    const both = augmented({ flip: true, brightness: 1e-9 }, step);
    expect(both.every((value, i) => Math.abs(value - flipped[i]!) < 1e-6)).toBe(true);
  }
});

test("one augmentation tells nothing about another", () => {
  const corner: Picture = { width: 2, height: 1, channels: 1, pixels: Uint8Array.of(100, 0) };
  const seen = steps.map((step) => {
    const out = new Float32Array(2);
    const augment = { ...NO_AUGMENTATION, flip: true, brightness: 0.5 };
    writeSample(corner, out, { mean: [0], std: [1] }, augment, { seed: 1, step, sample: 0 });
    return `${out[0] === 0 ? "mirrored" : "not"}, ${Math.max(...out) > 100 / 255 ? "brighter" : "darker"}`;
  });
  for (const both of new Set(seen)) expect(seen.filter((one) => one === both).length).toBeGreaterThan(5);
  expect(new Set(seen).size).toBe(4);
});

test("a flip mirrors all channels, half of the time", () => {
  const mirror = Float32Array.from(unit, (_, i) => unit[i - (i % SIDE) + SIDE - 1 - (i % SIDE)]!);
  const kinds = steps.map((step) => augmented({ flip: true }, step).join());
  const mirrored = kinds.filter((kind) => kind === mirror.join()).length;
  expect(kinds.filter((kind) => kind === unit.join()).length).toBe(60 - mirrored);
  expect(mirrored).toBeGreaterThan(15);
  expect(mirrored).toBeLessThan(45);
});

test("a crop moves all channels by at most the padding, to every place, and brings in black", () => {
  const places = new Set<string>();
  for (const step of Array.from({ length: 300 }, (_, i) => i)) {
    const out = augmented({ crop: 2 }, step);
    const moved = [-2, -1, 0, 1, 2].flatMap((dx) => [-2, -1, 0, 1, 2].map((dy) => [dx, dy] as const));
    const fits = moved.filter(([dx, dy]) =>
      Array.from({ length: PLANE }, (_, i) => [i % SIDE, Math.floor(i / SIDE)] as const).every(([x, y]) => {
        const inside = x + dx >= 0 && x + dx < SIDE && y + dy >= 0 && y + dy < SIDE;
        const expected = inside ? at(unit, x + dx, y + dy) : [0, 0, 0];
        return at(out, x, y).join() === expected.join();
      }),
    );
    expect(fits).toHaveLength(1);
    places.add(fits[0]!.join());
  }
  expect(places.size).toBe(25);
});

test("brightness is one factor for the whole picture, within its range", () => {
  const dark: Picture = { ...picture, pixels: noise(3 * PLANE, 5).map((byte) => byte >> 1) };
  const factors = steps.map((step) => {
    const out = augmented({ brightness: 0.3 }, step, 1, 0, dark);
    const ratios = [...out].flatMap((value, i) => (dark.pixels[i] ? [(value * 255) / dark.pixels[i]!] : []));
    expect(Math.max(...ratios) - Math.min(...ratios)).toBeLessThan(1e-5);
    return ratios[0]!;
  });
  expect(Math.min(...factors)).toBeGreaterThanOrEqual(0.7);
  expect(Math.max(...factors)).toBeLessThanOrEqual(1.3);
  expect(Math.max(...factors) - Math.min(...factors)).toBeGreaterThan(0.4);
});

test("contrast keeps the mean brightness of a grey picture and scales the distance to it", () => {
  const grey: Picture = {
    width: SIDE,
    height: SIDE,
    channels: 1,
    pixels: noise(PLANE, 6).map((b) => 64 + b / 2),
  };
  const mean = (values: Iterable<number>) => [...values].reduce((a, b) => a + b) / PLANE;
  for (const step of steps.slice(0, 20)) {
    const out = new Float32Array(PLANE);
    const draw = { seed: 1, step, sample: 0 };
    writeSample(grey, out, { mean: [0], std: [1] }, { ...NO_AUGMENTATION, contrast: 0.3 }, draw);
    expect(mean(out)).toBeCloseTo(mean(grey.pixels) / 255, 5);
    const factor = (out[0]! - out[1]!) / ((grey.pixels[0]! - grey.pixels[1]!) / 255);
    expect(Math.abs(factor - 1)).toBeLessThanOrEqual(0.3001);
  }
});

test("brightness and contrast leave values between 0 and 1", () => {
  for (const step of steps) {
    const out = augmented({ brightness: 1, contrast: 1 }, step);
    expect(out.every((value) => value >= 0 && value <= 1)).toBe(true);
  }
});

describe("a cut-out", () => {
  const white: Picture = { ...picture, pixels: new Uint8Array(3 * PLANE).fill(255) };
  const holes = (step: number) => {
    const out = augmented({ cutout: 3 }, step, 1, 0, white);
    return Array.from({ length: PLANE }, (_, i) => i).filter(
      (i) => at(out, i % SIDE, Math.floor(i / SIDE)).join() === "0,0,0",
    );
  };

  test("is a square of the mean in all channels, cut at the border, anywhere", () => {
    const sizes = new Set<number>();
    const covered = new Set<number>();
    for (const step of Array.from({ length: 200 }, (_, i) => i)) {
      const cells = holes(step);
      const [xs, ys] = [new Set(cells.map((i) => i % SIDE)), new Set(cells.map((i) => Math.floor(i / SIDE)))];
      expect(cells.length).toBe(xs.size * ys.size);
      expect([2, 3].includes(xs.size) && [2, 3].includes(ys.size)).toBe(true);
      sizes.add(cells.length);
      for (const cell of cells) covered.add(cell);
    }
    expect([...sizes].sort()).toEqual([4, 6, 9]);
    expect(covered.size).toBe(PLANE);
  });
});
