/** What collectives are taken to cost: closed forms, and what they send agrees with what the collectives themselves do. */

import { describe, expect, test } from "bun:test";
import type { LinkProfile } from "../../../../actors/scheduler/cost.ts";
import { SCHEDULES } from "../../../../actors/scheduler/schedule.ts";
import {
  type CollectiveWork,
  collectiveMs,
  evenMs,
  hopsOf,
  meanSent,
  mostSent,
  pieceBytes,
  sentBy,
  sentIn,
} from "../../../../actors/scheduler/simulate/collective.ts";
import { predict } from "../../../../actors/scheduler/simulate.ts";
import { collectiveBytes } from "../../../../nn/shards/plan.ts";
import { Tensor } from "../../../../protocols/tensor.ts";
import { LocalRanks } from "../../collectives/local.ts";
import { chunk } from "../costs.ts";

const link = (latencyMs: number, bytesPerMs: number): LinkProfile => ({ latencyMs, bytesPerMs });
const range = (count: number) => Array.from({ length: count }, (_, i) => i);
const OPS = ["all-reduce", "all-gather", "reduce-scatter"] as const;
const sum = (ranks: number, bytes: number): CollectiveWork => ({ op: "all-reduce", bytes, ranks });

/** Over the links of a ring, from each to the next. */
const ringMs = (op: CollectiveWork["op"], bytes: number, links: readonly LinkProfile[]) =>
  collectiveMs({ op, bytes, ranks: links.length, isEncoded: true }, (from) => links[from]!);

describe("rings", () => {
  test.each([2, 3, 5, 16])(
    "among %i: an all-reduce sends 2(n-1)/n of the bytes in 2(n-1) steps, others half",
    (n) => {
      const links = range(n).map(() => link(0.5, 1e4));
      const half = ((n - 1) / n) * 400 + (n - 1) * 0.5;
      expect(ringMs("all-reduce", 4e6, links)).toBeCloseTo(2 * half, 9);
      expect(ringMs("all-gather", 4e6, links)).toBeCloseTo(half, 9);
      expect(ringMs("reduce-scatter", 4e6, links)).toBeCloseTo(half, 9);
    },
  );
  test("of two who add up something short are an exchange: all of it, in one step", () => {
    const both = [link(0.5, 100), link(0.5, 100)];
    expect(ringMs("all-reduce", 1000, both)).toBeCloseTo(10 + 0.5, 9);
    expect(ringMs("all-reduce", 2 ** 21, both)).toBeCloseTo(2 ** 21 / 100 + 0.5, 9);
    expect(ringMs("all-reduce", 2 ** 21 + 4, both)).toBeCloseTo((2 ** 21 + 4) / 100 + 2 * 0.5, 9);
  });
  test("go at the pace of their slowest link, and of nobody with himself", () => {
    expect(ringMs("all-gather", 1000, [link(0, 100), link(2, 1000), link(0, 10)])).toBeCloseTo(
      1000 / 15 + 2 * 2,
      9,
    );
    expect(ringMs("all-reduce", 1000, [link(9, 1)])).toBe(0);
  });
});

describe("trees", () => {
  test.each([
    [9, 3],
    [15, 3],
    [16, 4],
    [63, 5],
    [555, 9],
  ])(
    "among %i: an all-reduce sends twice the bytes, and a piece waits on %i hops up and down",
    (n, depth) => {
      const even = link(0.5, 1e3);
      // A piece is all of a half, then 64 KiB, then one in 64.
      const pieces = [
        [8000, 4000],
        [4 * 2 ** 20, 2 ** 16],
        ...(n > 50 ? [[32 * 2 ** 20, 2 ** 18] as const] : []),
      ] as const;
      for (const [bytes, piece] of pieces) {
        const expected = (2 * bytes) / 1e3 + 2 * depth * (0.5 + piece / 1e3);
        expect(evenMs(sum(n, bytes), even)).toBeCloseTo(expected, 6);
        expect(collectiveMs(sum(n, bytes), () => even)).toBeCloseTo(expected, 6);
      }
    },
  );

  test("are for more than eight, for what travels as it is and is not very long", () => {
    expect(hopsOf(sum(8, 1000))).toBe(14);
    expect(hopsOf(sum(9, 1000))).toBe(6);
    expect(hopsOf({ ...sum(9, 1000), isEncoded: true })).toBe(16);
    expect(hopsOf({ op: "all-gather", bytes: 1000, ranks: 9 })).toBe(8);
    expect(hopsOf(sum(9, 45 * 2 ** 17 - 4))).toBe(6);
    expect(hopsOf(sum(9, 45 * 2 ** 17))).toBe(16);
  });

  test("wait for the busiest member, and on every hop for the longest way", () => {
    const ranks = 9;
    const bytes = 8000;
    // Of the fourth: two ways down and one up in one tree, one up in the other.
    const slow = (from: number) => (from === 3 ? link(0, 10) : link(2, 1e6));
    expect(sentBy(sum(ranks, bytes), 3)).toHaveLength(4);
    expect(collectiveMs(sum(ranks, bytes), slow)).toBeCloseTo(1600 + 6 * (2 + 400), 6);
  });

  test("share the interfaces of machines with several members", () => {
    const members = range(16).map((rank) => [rank]);
    const programs = SCHEDULES["1f1b"]({
      ...{ microBatches: 16, forwardOnly: 0 },
      stages: [{ positions: [0], sharing: "data", members }],
    });
    const bytes = 8000;
    const one = [chunk({ forwardMs: 1, backwardMs: 2, gradientBytes: bytes })];
    const machine = (worker: number) => worker >> 3;
    const { gateMs } = predict(programs, {
      chunks: programs.map(() => one),
      link: () => link(1, 1e6),
      interfaces: programs.map((_, worker) => {
        return { machine: machine(worker), upBytesPerMs: 10, downBytesPerMs: 10 };
      }),
    });
    const work = sum(16, bytes);
    const out = sentIn(work).filter(({ from, to }) => machine(from) === 0 && machine(to) === 1);
    const crossing = out.reduce((all, each) => all + each.bytes, 0) / 10;
    expect(crossing).toBeGreaterThan(0);
    expect(gateMs).toBeCloseTo(3 + crossing + 8 * (1 + pieceBytes(work) / 1e6), 6);
  });
});

describe.each([2, 3, 8, 9, 12, 33])("what is sent among %i", (ranks) => {
  test("is what collectives send, to the byte", async () => {
    const length = 12 * ranks;
    const work = sum(ranks, 4 * length);
    const local = new LocalRanks(ranks);
    await local.all((own) => own.allReduce("k", [Tensor.zeros("f32", [length])]));
    const sent = range(ranks).map((rank) =>
      sentBy(work, rank).reduce((bytes, each) => bytes + each.bytes, 0),
    );
    expect(sent).toEqual(local.bytes);
    expect(Math.max(...sent)).toBe(mostSent(work));
    expect(sent.reduce((a, b) => a + b) / ranks).toBeCloseTo(meanSent(work), 9);
  });

  test("is on average the least there can be, and the whole is sums of parts", () => {
    for (const op of OPS) {
      const work = { op, bytes: 1200, ranks };
      expect(meanSent(work)).toBeCloseTo(collectiveBytes(op, 1200, new Array(ranks).fill(1), 0), 9);
      expect(sentIn(work)).toEqual(range(ranks).flatMap((rank) => sentBy(work, rank)));
    }
  });
});
