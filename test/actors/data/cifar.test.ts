import { describe, expect, test } from "bun:test";
import { isCifar, readCifar } from "../../../actors/data/cifar.ts";
import { memoryFiles, noise, refusal } from "./memory.ts";

/** Records of `labels`, each of as many label bytes as given. */
function records(labels: readonly (readonly number[])[], seed: number): Uint8Array {
  return Uint8Array.from(labels.flatMap((own, i) => [...own, ...noise(3072, seed + i)]));
}

const read = (content: Record<string, Uint8Array | string>) => {
  const named = Object.fromEntries(Object.entries(content).map(([name, bytes]) => [`d/${name}`, bytes]));
  return readCifar(memoryFiles(named), "d", Object.keys(content));
};

test("CIFAR-10: all training batches in order, the test batch apart, classes by their names", async () => {
  const data = await read({
    "data_batch_2.bin": records([[7]], 30),
    "data_batch_1.bin": records([[1], [2]], 10),
    "test_batch.bin": records([[9]], 40),
    "batches.meta.txt": "a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n\n",
  });
  expect([data.train.count, data.validation.count, data.channels, data.size]).toEqual([3, 1, 3, 32]);
  expect([0, 1, 2].map((i) => data.train.label(i))).toEqual([1, 2, 7]);
  expect(data.train.picture(1).pixels).toEqual(noise(3072, 11));
  expect(data.validation.label(0)).toBe(9);
  expect(data.classes.join("")).toBe("abcdefghij");
});

test("CIFAR-100: the fine label is learned", async () => {
  const data = await read({
    "train.bin": records(
      [
        [3, 99],
        [1, 42],
      ],
      1,
    ),
    "test.bin": records([[0, 5]], 9),
  });
  expect([data.train.label(0), data.train.label(1), data.validation.label(0)]).toEqual([99, 42, 5]);
  expect(data.train.picture(1).pixels).toEqual(noise(3072, 2));
  expect(data.classes).toHaveLength(100);
});

test("is told from other folders by its training files", () => {
  expect(isCifar(["data_batch_1.bin"])).toBe(true);
  expect(isCifar(["train.bin", "x"])).toBe(true);
  expect(isCifar(["test.bin", "data_batch_1"])).toBe(false);
});

describe("what is wrong is said in one line", () => {
  test.each([
    [
      "a truncated file",
      records([[1]], 1).subarray(1),
      /data_batch_1.bin: 3072 bytes are no whole number of CIFAR-10/,
    ],
    [
      "a label that there is not",
      records([[1], [10]], 1),
      /record 1 has the label 10; CIFAR-10 has labels below 10/,
    ],
    ["an empty file", new Uint8Array(), /d: it holds 0 images/],
  ])("%s", async (_, bytes, message) => {
    expect(await refusal(read({ "data_batch_1.bin": bytes }))).toMatch(message);
  });
});
