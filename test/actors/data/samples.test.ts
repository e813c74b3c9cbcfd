import { describe, expect, test } from "bun:test";
import { permutation, SampleOrder, splitSamples, validationBatches } from "../../../actors/data/samples.ts";

const upTo = (count: number) => Array.from({ length: count }, (_, i) => i);
const ascending = (numbers: Iterable<number>) => [...numbers].sort((a, b) => a - b);

describe("a permutation", () => {
  test.each([1, 2, 3, 17, 1000])("of %p has each number once", (count) => {
    expect(ascending(permutation(3, 5, 0, count))).toEqual(upTo(count));
  });

  test("is a function of seed, stream and epoch, and of each of them", () => {
    const of = (seed: number, stream: number, epoch: number) => permutation(seed, stream, epoch, 50).join();
    expect(of(1, 2, 3)).toBe(of(1, 2, 3));
    expect(new Set([of(1, 2, 3), of(4, 2, 3), of(1, 4, 3), of(1, 2, 4)]).size).toBe(4);
  });

  test("has every number in every place about as often", () => {
    const counts = upTo(6).map(() => upTo(6).map(() => 0));
    const rounds = 6000;
    for (let epoch = 0; epoch < rounds; epoch++) {
      permutation(1, 1, epoch, 6).forEach((number, place) => {
        counts[place]![number]!++;
      });
    }
    // 1000 each, give or take six standard deviations.
    for (const count of counts.flat()) expect(Math.abs(count - rounds / 6)).toBeLessThan(6 * 29);
  });
});

describe("the order of samples", () => {
  test("goes through all samples in every epoch, each time in another order", () => {
    const order = new SampleOrder(7, 40);
    const epochs = upTo(3).map((epoch) => upTo(40).map((i) => order.at(40 * epoch + i)));
    for (const epoch of epochs) expect(ascending(epoch)).toEqual(upTo(40));
    expect(new Set(epochs.map(String)).size).toBe(3);
  });

  test("does not depend on what was asked for before", () => {
    const [forth, back] = [new SampleOrder(7, 9), new SampleOrder(7, 9)];
    const draws = upTo(50);
    const expected = draws.map((draw) => forth.at(draw));
    expect(
      draws
        .toReversed()
        .map((draw) => back.at(draw))
        .reverse(),
    ).toEqual(expected);
    expect(draws.map((draw) => new SampleOrder(8, 9).at(draw))).not.toEqual(expected);
  });
});

test("a tenth is held out, one sample at least, from all over the set", () => {
  for (const count of [2, 9, 10, 105]) {
    const { train, validation } = splitSamples(count);
    expect(validation).toHaveLength(Math.max(1, Math.floor(count / 10)));
    expect(ascending([...train, ...validation])).toEqual(upTo(count));
  }
  expect(splitSamples(1000)).toEqual(splitSamples(1000));
  expect(splitSamples(1000).validation.filter((i) => i < 500).length).toBeGreaterThan(30);
});

describe("validation", () => {
  test("takes full micro-batches at even distances, no sample twice", () => {
    const batches = validationBatches(5000, 64);
    expect(batches).toHaveLength(16);
    expect(batches.every((batch) => batch.length === 64)).toBe(true);
    expect(new Set(batches.flat()).size).toBe(1024);
    expect(Math.max(...batches.flat())).toBeGreaterThan(4990);
  });

  test("takes what there is, and repeats it when that is too little", () => {
    expect(validationBatches(10, 4).flat()).toHaveLength(8);
    expect(validationBatches(3, 4)).toEqual([[0, 1, 2, 0]]);
  });
});
