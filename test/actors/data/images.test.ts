import { describe, expect, test } from "bun:test";
import { NO_AUGMENTATION } from "../../../actors/data/augment.ts";
import { ImageFeed, type ImageFeedOptions } from "../../../actors/data/images.ts";
import {
  type ImageData,
  imagesWithChannels,
  numbered,
  packed,
  parts,
  withChannels,
} from "../../../actors/data/picture.ts";
import { noise } from "./memory.ts";

const COUNT = 40;
/** Each picture is known by its first pixel, i, and has the label i mod 4. */
const pixels = noise(COUNT * 16, 3);
for (let i = 0; i < COUNT; i++) pixels[16 * i] = i;
const whole = packed(
  { width: 4, height: 4, channels: 1 },
  pixels,
  Uint8Array.from({ length: COUNT }, (_, i) => i % 4),
);
const data: ImageData = {
  kind: "images",
  name: "test",
  classes: numbered(4),
  channels: 1,
  size: 4,
  ...parts("test", whole, null),
};
const feed = (options: Partial<ImageFeedOptions> = {}) =>
  new ImageFeed(data, { seed: 1, rows: 3, microBatches: 2, size: 4, augment: NO_AUGMENTATION, ...options });

/** Which pictures a micro-batch is of, checked against their labels. */
function identities(one: ImageFeed, batch: ReturnType<ImageFeed["training"]>): number[] {
  const { mean, std } = one.normalisation;
  const values = batch.images!.f32();
  return [...batch.targets!.i64()].map((label, row) => {
    const i = Math.round((values[16 * row]! * std[0]! + mean[0]!) * 255);
    expect(Number(label)).toBe(i % 4);
    return i;
  });
}

test("gives what a model of its size reads", () => {
  expect(feed({ size: 8 }).values).toEqual([
    { name: "images", dtype: "f32", shape: [3, 1, 8, 8] },
    { name: "targets", dtype: "i64", shape: [3] },
  ]);
  expect(feed({ size: 8 }).training(0, 1).images!.shape).toEqual([3, 1, 8, 8]);
});

test("an epoch has every training picture once, with its label; none of them is validated on", () => {
  const one = feed();
  const epoch = Array.from({ length: 6 }, (_, step) =>
    [0, 1].flatMap((microBatch) => identities(one, one.training(step, microBatch))),
  ).flat();
  const held = Array.from({ length: one.validationCount }, (_, i) =>
    identities(one, one.validation(i)),
  ).flat();
  expect(new Set(epoch).size).toBe(36);
  expect(held.filter((i) => epoch.includes(i))).toEqual([]);
});

test("is normalised: the training pictures have mean 0 and variance 1", () => {
  const one = feed();
  const values = Array.from({ length: 6 }, (_, step) =>
    [0, 1].flatMap((microBatch) => [...one.training(step, microBatch).images!.f32()]),
  ).flat();
  expect(values.reduce((a, b) => a + b) / values.length).toBeCloseTo(0, 5);
  expect(values.reduce((a, b) => a + b * b, 0) / values.length).toBeCloseTo(1, 5);
});

describe("replay", () => {
  const augment = { crop: 1, flip: true, brightness: 0.2, contrast: 0.2, cutout: 2 };

  test("the same seed and step give the same bytes, another seed or step others", () => {
    const one = feed({ augment });
    one.training(7, 0);
    expect(one.training(5, 1)).toEqual(feed({ augment }).training(5, 1));
    expect(one.training(5, 1)).not.toEqual(one.training(6, 1));
    expect(one.training(5, 1)).not.toEqual(feed({ augment, seed: 2 }).training(5, 1));
  });

  test("how a batch is cut into micro-batches does not change what it holds", () => {
    const whole = feed({ augment, rows: 6, microBatches: 1 }).training(4, 0);
    const halves = [0, 1].map((microBatch) => feed({ augment }).training(4, microBatch));
    expect([...whole.images!.f32()]).toEqual(halves.flatMap(({ images }) => [...images!.f32()]));
    expect([...whole.targets!.i64()]).toEqual(halves.flatMap(({ targets }) => [...targets!.i64()]));
  });

  test("validation is the same in every run and never augmented", () => {
    expect(feed({ augment, seed: 9 }).validation(0)).toEqual(feed().validation(0));
  });
});

test("pictures that never vary are only centred", () => {
  const flat = packed({ width: 1, height: 1, channels: 1 }, new Uint8Array(4).fill(51), [0, 1, 0, 1]);
  const one = new ImageFeed(
    { ...data, size: 1, ...parts("flat", flat, null) },
    { seed: 1, rows: 1, microBatches: 1, size: 1, augment: NO_AUGMENTATION },
  );
  expect(one.training(0, 0).images!.f32()[0]).toBeCloseTo(0, 6);
});

test("grey pictures become coloured ones and back; coloured ones become their brightness", () => {
  const coloured = imagesWithChannels(data, 3);
  expect([coloured.channels, coloured.train.picture(3).pixels.length]).toEqual([3, 48]);
  expect(imagesWithChannels(coloured, 1).train.picture(3)).toEqual(data.train.picture(3));
  const red = { width: 2, height: 1, channels: 3, pixels: Uint8Array.of(255, 0, 0, 100, 0, 0) };
  expect([...withChannels(red, 1).pixels]).toEqual([76, 59]);
});
