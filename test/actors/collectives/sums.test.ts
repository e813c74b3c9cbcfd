/** What sums of many ranks keep to, however they are formed. */

import { describe, expect, test } from "bun:test";
import { Lines } from "../../../actors/collectives/lines.ts";
import { PIECE } from "../../../actors/collectives/pieces.ts";
import { Ring } from "../../../actors/collectives/ring.ts";
import { addUpInTrees } from "../../../actors/collectives/trees.ts";
import { type Random, seededRandom } from "../../../runtime/random.ts";
import { LocalRanks } from "./local.ts";

type AddUp = (lines: Lines, key: string, values: Float32Array) => Promise<void>;

const WAYS: readonly (readonly [string, AddUp])[] = [
  ["round a ring", (lines, key, values) => new Ring(lines, null).addUp(key, values, undefined)],
  ["in trees", addUpInTrees],
];
const RANKS = [2, 3, 9, 10, 16, 17, 33, 40];

const range = (count: number) => Array.from({ length: count }, (_, i) => i);

/** Values whose sums depend on the order, of each rank. */
const summands = (random: Random, ranks: number, length: number) =>
  range(ranks).map(() => Float32Array.from({ length }, () => 2 * random.next() - 1));

/** The largest distance of a sum from that in double precision. */
function distance(sum: Float32Array, values: readonly Float32Array[]): number {
  let most = 0;
  for (let i = 0; i < sum.length; i++) {
    const exact = values.reduce((total, own) => total + own[i]!, 0);
    most = Math.max(most, Math.abs(sum[i]! - exact));
  }
  return most;
}

const bits = (values: Float32Array) => Buffer.from(values.buffer, values.byteOffset, values.byteLength);
const sameBits = (all: readonly Float32Array[]) =>
  all.every((values) => Buffer.compare(bits(values), bits(all[0]!)) === 0);

const linesOf = (local: LocalRanks, ranks: number) =>
  range(ranks).map((rank) => new Lines(rank, ranks, local.exchange(rank)));

describe.each(WAYS)("sums of many, formed %s,", (_, addUp) => {
  describe.each(RANKS)("%i ranks", (ranks) => {
    // Nothing, less than one of each half, less than ranks, and several uneven pieces.
    test.each([0, 1, 2, ranks - 1, 100, PIECE + 7])(
      "of %i elements are the same bits on all",
      async (length) => {
        const random = seededRandom(ranks + length);
        const local = new LocalRanks(ranks, null, random);
        const values = summands(random, ranks, length);
        const before = values.map((own) => own.slice());
        await Promise.all(linesOf(local, ranks).map((lines, rank) => addUp(lines, "k", values[rank]!)));
        expect(sameBits(values)).toBe(true);
        expect(distance(values[0]!, before)).toBeLessThan(1e-5);
        expect(local.left).toBe(0);
        expect(local.isOverwritten).toBe(false);
        // As many bytes in all, and none sends everything more than twice.
        const sent = local.bytes.reduce((all, bytes) => all + bytes, 0);
        expect(sent).toBe(8 * length * (ranks - 1));
        expect(Math.max(...local.bytes)).toBeLessThanOrEqual(8 * (length + 1));
      },
    );

    test("are the same in whatever order messages come", async () => {
      const results = await Promise.all(
        [1, 2, 3].map(async (seed) => {
          const local = new LocalRanks(ranks, null, seededRandom(seed));
          const values = summands(seededRandom(7), ranks, 200);
          await Promise.all(linesOf(local, ranks).map((lines, rank) => addUp(lines, "k", values[rank]!)));
          return values[0]!;
        }),
      );
      expect(sameBits(results)).toBe(true);
    });

    test("may be several at once, in whatever order each asks for them", async () => {
      const random = seededRandom(ranks);
      const local = new LocalRanks(ranks, null, random);
      const sums = range(4).map((i) => summands(random, ranks, 50 + i));
      const before = sums.map((values) => values.map((own) => own.slice()));
      await Promise.all(
        linesOf(local, ranks).map(async (lines, rank) => {
          const order = rank % 2 === 0 ? [0, 1, 2, 3] : [3, 1, 0, 2];
          await Promise.all(order.map((i) => addUp(lines, `sum ${i}`, sums[i]![rank]!)));
        }),
      );
      for (const [i, values] of sums.entries()) {
        expect(sameBits(values)).toBe(true);
        expect(distance(values[0]!, before[i]!)).toBeLessThan(1e-5);
      }
      expect(local.left).toBe(0);
    });

    test("end where a rank is gone, with the reason, and nothing is written behind that", async () => {
      const random = seededRandom(ranks);
      for (const gone of [0, 1, ranks >> 1, ranks - 1]) {
        const local = new LocalRanks(ranks, null, random);
        const values = summands(random, ranks, PIECE >> 1);
        const reason = new Error(`rank ${gone} is gone`);
        const all = linesOf(local, ranks);
        const there = range(ranks).filter((rank) => rank !== gone);
        const pending = there.map((rank) => addUp(all[rank]!, "k", values[rank]!));
        const ended = Promise.allSettled(pending);
        for (let turns = random.integer(60); turns > 0; turns--) await null;
        for (const rank of there) all[rank]!.abandon(reason);
        for (const outcome of await ended) expect(outcome).toEqual({ status: "rejected", reason });
        const then = values.map((own) => own.slice());
        for (let turns = 0; turns < 100; turns++) await null;
        expect(values.every((own, rank) => sameBits([own, then[rank]!]))).toBe(true);
        expect(addUp(all[there[0]!]!, "more", values[there[0]!]!)).rejects.toBe(reason);
      }
    });
  });

  test("end at whoever cannot give to one that is gone", async () => {
    const local = new LocalRanks(9);
    // The first gives to it at once, in a ring and in a tree.
    local.gone.add(1);
    const [first] = linesOf(local, 9);
    expect(addUp(first!, "k", new Float32Array(99))).rejects.toThrow("rank 1 is gone");
  });
});
