/** What ranks do together comes out right on each of them, whatever the sizes, and sends the least there can be. */

import { describe, expect, test } from "bun:test";
import { PIECE, SHORT } from "../../../actors/collectives/pieces.ts";
import { collectiveBytes } from "../../../nn/shards/plan.ts";
import { bf16 } from "../../../protocols/codecs/half.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { Chance } from "../../nn/engine/operator-cases.ts";
import { LocalRanks } from "./local.ts";

const RANKS = [2, 3, 4, 5];

/** Values whose sums depend on the order, of each rank. */
const summands = (ranks: number, shape: readonly number[], seed = 1) => {
  const chance = new Chance(seed);
  return Array.from({ length: ranks }, () => chance.f32(shape, -1, 1));
};

/** The sum of all, in double precision. */
function total(tensors: readonly Tensor[]): number[] {
  const values = tensors.map((tensor) => tensor.f32());
  return Array.from(values[0]!, (_, i) => values.reduce((sum, rank) => sum + rank[i]!, 0));
}

const copy = ({ shape, dtype, bytes }: Tensor) => new Tensor(dtype, shape, bytes.slice());

function expectNear(actual: Tensor, expected: readonly number[], bound = 1e-5) {
  const values = actual.f32();
  expect(values.length).toBe(expected.length);
  const worst = expected.reduce((most, x, i) => Math.max(most, Math.abs(x - values[i]!)), 0);
  expect(worst).toBeLessThan(bound);
}

const sameBits = (tensors: readonly Tensor[]) =>
  tensors.every(({ bytes }) => Buffer.compare(bytes, tensors[0]!.bytes) === 0);

describe.each(RANKS)("%i ranks", (ranks) => {
  // Fewer elements than ranks, none at all, uneven chunks, and several pieces of uneven size.
  test.each([0, 1, ranks - 1, 7, 100, 2 * ranks * PIECE + 5, SHORT + 1])(
    "add up %i elements",
    async (length) => {
      const local = new LocalRanks(ranks);
      const tensors = summands(ranks, [length]);
      const expected = total(tensors);
      await local.all((ring, rank) => ring.allReduce("k", [tensors[rank]!]));
      expect(sameBits(tensors)).toBe(true);
      expectNear(tensors[0]!, expected);
      expect(local.left).toBe(0);
      const each = 4 * length;
      local.bytes.forEach((bytes) => {
        const least = collectiveBytes("all-reduce", each, new Array(ranks).fill(1), 0);
        expect(Math.abs(bytes - least)).toBeLessThanOrEqual(8);
      });
    },
  );

  test("add up several tensors as one", async () => {
    const local = new LocalRanks(ranks);
    const shapes = [[3, 5], [], [0, 4], [17]];
    const tensors = shapes.map((shape, i) => summands(ranks, shape, i + 1));
    const expected = tensors.map(total);
    await local.all((ring, rank) => ring.allReduce("k", tensors.map((of) => of[rank]!))); // biome-ignore format: one line
    for (const [i, of] of tensors.entries()) {
      expect(sameBits(of)).toBe(true);
      expectNear(of[0]!, expected[i]!);
    }
    expect(local.messages).toEqual(new Array(ranks).fill(ranks === 2 ? 1 : 2 * (ranks - 1)));
  });

  test("gather parts of any sizes", async () => {
    const local = new LocalRanks(ranks);
    // The first has none, the last several pieces.
    const parts = Array.from({ length: ranks }, (_, rank) =>
      new Chance(rank).f32(rank === ranks - 1 ? [PIECE, 3] : [rank, 2]),
    );
    const results = await local.all((ring, rank) => ring.allGather("k", parts[rank]!));
    for (const result of results) {
      expect(result.map(({ shape }) => shape)).toEqual(parts.map(({ shape }) => shape));
      expect(result.every(({ bytes }, i) => Buffer.compare(bytes, parts[i]!.bytes) === 0)).toBe(true);
    }
    expect(local.left).toBe(0);
    const sizes = parts.map(({ bytes }) => bytes.byteLength);
    const whole = sizes.reduce((a, b) => a + b, 0);
    local.bytes.forEach((bytes, rank) => {
      expect(Math.abs(bytes - collectiveBytes("all-gather", whole, sizes, rank))).toBeLessThanOrEqual(16);
    });
  });

  test("scatter sums of any sizes, and leave their summands as they are", async () => {
    const local = new LocalRanks(ranks);
    const shape = (rank: number) => (rank === ranks - 1 ? [PIECE, 3] : [rank, 2]);
    const parts = Array.from({ length: ranks }, (_, to) => summands(ranks, shape(to), to + 1));
    const before = parts.map((of) => of.map(copy));
    const results = await local.all((ring, rank) =>
      ring.reduceScatter(
        "k",
        parts.map((of) => of[rank]!),
      ),
    );
    results.forEach((result, rank) => {
      expect(result.shape).toEqual(shape(rank));
      expectNear(result, total(before[rank]!));
    });
    expect(parts).toEqual(before);
    expect(local.left).toBe(0);
    const sizes = parts.map(([first]) => first!.bytes.byteLength);
    const whole = sizes.reduce((a, b) => a + b, 0);
    local.bytes.forEach((bytes, rank) => {
      expect(bytes).toBe(collectiveBytes("reduce-scatter", whole, sizes, rank));
    });
  });

  test("do several things at once, in whatever order each asks for them", async () => {
    const local = new LocalRanks(ranks);
    const tensors = Array.from({ length: 4 }, (_, i) => summands(ranks, [1000 + i], i + 1));
    const expected = tensors.map(total);
    await local.all(async (ring, rank) => {
      const order = rank % 2 === 0 ? [0, 1, 2, 3] : [3, 1, 0, 2];
      const sums = order.map((i) => ring.allReduce(`sum ${i}`, [tensors[i]![rank]!]));
      const parts = await ring.allGather("gather", Tensor.f32([1], [rank]));
      expect(parts.map((part) => part.f32()[0])).toEqual(Array.from({ length: ranks }, (_, i) => i));
      await Promise.all(sums);
    });
    for (const [i, of] of tensors.entries()) {
      expect(sameBits(of)).toBe(true);
      expectNear(of[0]!, expected[i]!);
    }
  });

  test.each(["bf16", "int8", "top-0.1"])(
    "add up as %s: the same on all, and nothing lost for good",
    async (codec) => {
      const local = new LocalRanks(ranks, codec);
      const [length, steps] = [640, 40];
      const sum = new Float64Array(length);
      const want = new Float64Array(length);
      for (let step = 0; step < steps; step++) {
        const tensors = summands(ranks, [length]);
        const expected = total(tensors);
        await local.all((ring, rank) => ring.allReduce(`${step}`, [tensors[rank]!], "weights"));
        expect(sameBits(tensors)).toBe(true);
        for (let i = 0; i < length; i++) {
          sum[i]! += tensors[0]!.f32()[i]!;
          want[i]! += expected[i]!;
        }
      }
      // What is left out of one step is bounded, so what is left out of all of them is a smaller part of it each.
      const most = want.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
      const lost = want.reduce((worst, x, i) => Math.max(worst, Math.abs(x - sum[i]!)), 0);
      expect(lost / most).toBeLessThan(codec.startsWith("top") ? 0.5 : 1e-3);
      const plain = 8 * length * steps * ((ranks - 1) / ranks);
      for (const bytes of local.bytes) expect(bytes).toBeLessThan(0.6 * plain);
    },
  );
});

test("what is in no place is exact, whatever the codec", async () => {
  const local = new LocalRanks(2, "int8");
  const tensors = [Tensor.f32([2], [1, 1e-4]), Tensor.f32([2], [2, 1e-4])];
  await local.all((ring, rank) => ring.allReduce("k", [tensors[rank]!]));
  expect([...tensors[0]!.f32()]).toEqual([...Tensor.f32([2], [3, 2e-4]).f32()]);
});

test("many add up round the ring what travels encoded, and in trees what does not", async () => {
  const local = new LocalRanks(9, "bf16");
  const sum = (place?: string) => {
    const tensors = summands(9, [90]);
    return local.all((own, rank) => own.allReduce(`${place}`, [tensors[rank]!], place));
  };
  await sum("place");
  expect(local.messages).toEqual(new Array(9).fill(16));
  await sum();
  expect(Math.max(...local.messages)).toBe(16 + 4);
});

test("with a codec, what an owner has is what others get of it", async () => {
  const local = new LocalRanks(2, "bf16");
  const tensors = [Tensor.f32([2], [1 / 3, 0]), Tensor.f32([2], [0, 1 / 3])];
  await local.all((ring, rank) => ring.allReduce("k", [tensors[rank]!], "place"));
  const third = bf16.decode(bf16.encode(Float32Array.of(1 / 3)), 1)[0]!;
  for (const tensor of tensors) expect([...tensor.f32()]).toEqual([third, third]);
});

describe("where a rank is gone", () => {
  test("nothing waits for it: what is under way ends with the reason, and so does what comes", async () => {
    const { collectives } = new LocalRanks(3);
    const reason = new Error("rank 2 is gone");
    const pending = [0, 1].flatMap((rank) => [
      collectives[rank]!.allReduce("a", [Tensor.f32([9], new Float32Array(9))]),
      collectives[rank]!.allGather("b", Tensor.f32([1], [1])),
      collectives[rank]!.reduceScatter("c", [1, 2, 3].map((n) => Tensor.zeros("f32", [n]))), // biome-ignore format: one line
    ]);
    for (const rank of [0, 1]) collectives[rank]!.abandon(reason);
    for (const result of await Promise.allSettled(pending)) {
      expect(result).toEqual({ status: "rejected", reason });
    }
    expect(collectives[0]!.allGather("d", Tensor.f32([1], [1]))).rejects.toBe(reason);
  });

  test("whoever cannot give to it abandons all the rest", async () => {
    const local = new LocalRanks(3);
    local.gone.add(2);
    const [, before] = local.collectives;
    const other = before!.allGather("a", Tensor.f32([1], [1]));
    const sum = before!.allReduce("b", [Tensor.f32([9], new Float32Array(9))]);
    const outcomes = await Promise.allSettled([other, sum]);
    for (const outcome of outcomes) {
      expect(outcome.status === "rejected" && outcome.reason.message).toBe("rank 2 is gone");
    }
  });

  test("a rank with another size is told, and waits no more", async () => {
    const local = new LocalRanks(2);
    const [a, b] = local.collectives as [(typeof local.collectives)[0], (typeof local.collectives)[0]];
    const sums = [
      a.allReduce("k", [Tensor.zeros("f32", [8])]),
      b.allReduce("k", [Tensor.zeros("f32", [10])]),
    ];
    const outcomes = await Promise.allSettled(sums);
    const messages = outcomes.map((outcome) => outcome.status === "rejected" && outcome.reason.message);
    expect(messages).toEqual([
      "collective k/both.0: rank 0 has f32[8], f32[10] came",
      "collective k/both.0: rank 1 has f32[10], f32[8] came",
    ]);
  });
});

test("one rank alone has it all", async () => {
  const { collectives } = new LocalRanks(1);
  const [ring] = collectives as [(typeof collectives)[0]];
  const tensor = Tensor.f32([2], [1, 2]);
  await ring.allReduce("k", [tensor]);
  expect([...tensor.f32()]).toEqual([1, 2]);
  expect(await ring.allGather("k", tensor)).toEqual([tensor]);
  expect(await ring.reduceScatter("k", [tensor])).toEqual(tensor);
});
