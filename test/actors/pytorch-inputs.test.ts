/**
 * The PyTorch script starts from the same weights and reads the same windows, to the bit: what makes its losses
 * comparable, and the first place to look when they are not equal.
 */

import { beforeAll, describe, expect, test } from "bun:test";
import { join } from "node:path";
import { weightsSha256 } from "../../actors/checkpoint.ts";
import { fillBatch } from "../../actors/data/batch.ts";
import { readText, type Split, splitText } from "../../actors/data/corpus.ts";
import { microBatchStarts, validationStarts } from "../../actors/data/order.ts";
import { gptInitial } from "../../nn/models/init.ts";
import { files } from "../../runtime/platform/files.ts";
import { sha256 } from "../../runtime/platform/hash.ts";
import fixture from "../fixtures/gpt-pytorch.json";

const fixtures = join(import.meta.dir, "..", "fixtures");

describe.each([
  ["small", fixture.small],
  ["full", fixture.full],
] as const)("the %s GPT of the fixture", (_, { config, parameters, ...expected }) => {
  let split: Split;
  beforeAll(async () => {
    const corpus = await readText(files, join(fixtures, fixture.text));
    expect(sha256([corpus.bytes])).toBe(fixture.textSha256);
    split = splitText(corpus, config.context);
  });

  test("has the same initial weights", () => {
    const weights = new Map(
      Object.entries(parameters).map(([name, shape]) => [
        name,
        gptInitial(config.seed, name, shape, config.layers),
      ]),
    );
    expect(weightsSha256(weights)).toBe(expected.initialSha256);
  });

  test("reads the same micro-batches", () => {
    const rows = config.batch / config.microBatches;
    const ids = new BigInt64Array(config.context * rows);
    const targets = new BigInt64Array(config.context * rows);
    const bytes = (values: BigInt64Array) => new Uint8Array(values.buffer).slice();
    expected.batchSha256.forEach((digest, step) => {
      const chunks: Uint8Array[] = [];
      for (let m = 0; m < config.microBatches; m++) {
        const starts = microBatchStarts(config.seed, step, m, rows, split.train.length, config.context);
        fillBatch(split.train, starts, config.context, ids, targets);
        chunks.push(bytes(ids), bytes(targets));
      }
      expect(sha256(chunks)).toBe(digest);
    });
  });

  test("is validated on the same windows", () => {
    expect(validationStarts(split, config.context, config.validationWindows)).toEqual(
      expected.validationStarts,
    );
  });
});
