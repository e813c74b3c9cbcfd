/** How long sums take, with the collectives on a simulated network: as predicted, and of many not in proportion to them. */

import { describe, expect, test } from "bun:test";
import { GroupCollectives } from "../../../actors/collectives/group.ts";
import { Lines } from "../../../actors/collectives/lines.ts";
import { Ring } from "../../../actors/collectives/ring.ts";
import { evenMs } from "../../../actors/scheduler/simulate/collective.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { Network } from "./network.ts";

const LINK = { latencyMs: 1, bytesPerMs: 125_000 };

/** Of summands of 1, in simulated time. */
async function sumMs(ranks: number, length: number): Promise<number> {
  const network = new Network(ranks, LINK);
  const tensors = Array.from({ length: ranks }, () => Tensor.f32([length], new Float32Array(length).fill(1)));
  const ms = await network.run(
    tensors.map((tensor, rank) => {
      const own = new GroupCollectives({ rank, ranks, exchange: network.exchange(rank) });
      return own.allReduce("k", [tensor]);
    }),
  );
  for (const tensor of tensors) expect(tensor.f32().every((sum) => sum === ranks)).toBe(true);
  return ms;
}

async function ringMs(ranks: number, length: number): Promise<number> {
  const network = new Network(ranks, LINK);
  return network.run(
    Array.from({ length: ranks }, (_, rank) => {
      const lines = new Lines(rank, ranks, network.exchange(rank));
      return new Ring(lines, null).addUp("k", new Float32Array(length), undefined);
    }),
  );
}

describe.each([10, 5000, 200_000, 1_000_000])("%i elements", (length) => {
  test.each(length < 1e6 ? [9, 10, 31, 32, 100] : [9, 10, 31])(
    "among %i take what is predicted",
    async (ranks) => {
      const predicted = evenMs({ op: "all-reduce", bytes: 4 * length, ranks }, LINK);
      expect((await sumMs(ranks, length)) / predicted).toBeWithin(0.85, 1.15);
    },
  );
});

test("ten times as many take twice the hops, where a ring takes ten times as many", async () => {
  expect((await sumMs(100, 100)) / (await sumMs(10, 100))).toBeLessThan(2.1);
  expect((await ringMs(100, 100)) / (await ringMs(10, 100))).toBeGreaterThan(10);
});
