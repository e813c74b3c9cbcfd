/** The books of copies: from which step a run can go on, and who has what then. */

import { describe, expect, test } from "bun:test";
import { type Copy, type Holding, Ledger } from "../../../actors/recovery/ledger.ts";

const holding = (worker: string, names: string[], more: Partial<Holding> = {}): Holding => ({
  ...{ worker, names, cuts: {}, rank: 0, ranks: 1, apart: false },
  ...more,
});
const copy = (own: Holding, step: number, device: string): Copy<string> => ({
  ...{ holding: own, step, device, source: `${own.worker} on ${device}` },
});
function ledger(...copies: Copy<string>[]): Ledger<string> {
  const made = new Ledger<string>();
  for (const each of copies) made.add(each);
  return made;
}

const FRONT = holding("1/0", ["a", "b"]);
const BACK = holding("1/1", ["c"]);
const ALL = ["a", "b", "c"];
/** Each has half of `w`. */
const HALVES = [0, 1].map((rank) =>
  holding(`1/${rank}`, ["w", "bias"], {
    ...{ rank, ranks: 2, cuts: { w: { axis: 0, sizes: [2, 2] } as unknown as Holding["cuts"][string] } },
  }),
);

describe("a recovery point", () => {
  test("is the latest step that there is everything of", () => {
    const books = ledger(
      ...[3, 4, 5].map((step) => copy(FRONT, step, "0")),
      ...[3, 4].map((step) => copy(BACK, step, "1")),
    );
    expect(books.point(ALL)).toBe(4);
    expect(books.point(["a"])).toBe(5);
    expect(books.point(["a", "nobody's"])).toBeNull();
  });

  test("is before what was lost with a device, unless somebody else has it", () => {
    const books = ledger(
      ...[3, 4].flatMap((step) => [copy(FRONT, step, "0"), copy(BACK, step, "1")]),
      copy(FRONT, 3, "1"),
    );
    books.lose("0");
    expect(books.point(ALL)).toBe(3);
    books.lose("1");
    expect(books.point(ALL)).toBeNull();
  });

  test("wants all parts of what is cut, of one step", () => {
    const [first, second] = HALVES as [Holding, Holding];
    const books = ledger(copy(first, 1, "0"), copy(second, 2, "1"));
    expect(books.point(["w"])).toBeNull();
    expect(books.point(["bias"])).toBe(2);
    books.add(copy(second, 1, "2"));
    expect(books.point(["w", "bias"])).toBe(1);
  });

  test("wants every member of those that train on their own", () => {
    const [first, second] = [0, 1].map((rank) =>
      holding(`1/${rank}`, ["w"], { rank, ranks: 2, apart: true }),
    ) as [Holding, Holding];
    const books = ledger(copy(first, 1, "0"), copy(first, 1, "1"));
    expect(books.point(["w"])).toBeNull();
    books.add(copy(second, 1, "1"));
    expect(books.point(["w"])).toBe(1);
  });

  test("is gone with what is given up", () => {
    const books = ledger(...[3, 4].flatMap((step) => [copy(FRONT, step, "0"), copy(BACK, step, "1")]));
    books.drop("1/1 on 1");
    expect(books.point(ALL)).toBeNull();
    expect(books.point(["a", "b"])).toBe(4);
    books.forgetBefore(5);
    expect(books.point(["a"])).toBeNull();
  });

  test("of workers that are of no use any more is none", () => {
    const books = ledger(copy(FRONT, 3, "0"), copy(holding("2/0", ["a", "b"]), 2, "1"));
    books.keepWorkers((worker) => worker.startsWith("2/"));
    expect(books.point(["a", "b"])).toBe(2);
  });
});

describe("who has a value as a worker is to hold it", () => {
  test("the nearest, else whoever has it; of that step alone", () => {
    const books = ledger(copy(FRONT, 1, "0"), copy(FRONT, 1, "1"), copy(FRONT, 2, "2"));
    const wanted = holding("2/0", ["a", "b"]);
    expect(books.exact(1, "a", wanted, "1")?.device).toBe("1");
    expect(books.exact(1, "a", wanted, "2")?.device).toBe("0");
    expect(books.exact(1, "c", wanted, "0")).toBeNull();
    expect(books.exact(0, "a", wanted, "0")).toBeNull();
  });

  test("a part is its member's own, what is whole is anybody's", () => {
    const books = ledger(...HALVES.map((own, i) => copy(own, 1, `${i}`)));
    const second = holding("2/1", ["w", "bias"], { ...HALVES[1]!, worker: "2/1" });
    expect(books.exact(1, "w", second, "0")?.device).toBe("1");
    expect(books.exact(1, "bias", second, "0")?.device).toBe("0");
  });

  test("nobody, where it was cut in another way, or is a member's own", () => {
    const books = ledger(...HALVES.map((own, i) => copy(own, 1, `${i}`)));
    const whole = holding("2/0", ["w"]);
    expect(books.exact(1, "w", whole, "0")).toBeNull();
    expect(books.partsOf(1, "w").map(({ device }) => device)).toEqual(["0", "1"]);
    const own = holding("2/0", ["bias"], { apart: true });
    expect(books.exact(1, "bias", own, "0")).toBeNull();
  });
});

test("parts are given in their members' order, wherever they are, and not at all where one lacks", () => {
  const [first, second] = HALVES as [Holding, Holding];
  const books = ledger(copy(second, 1, "3"), copy(first, 1, "2"), copy(first, 1, "4"));
  expect(books.partsOf(1, "w").map(({ device }) => device)).toEqual(["2", "3"]);
  expect(books.partsOf(1, "w", "4").map(({ device }) => device)).toEqual(["4", "3"]);
  books.lose("3");
  expect(books.partsOf(1, "w")).toEqual([]);
});

test("devices with what a worker holds are each named once", () => {
  const books = ledger(copy(FRONT, 1, "0"), copy(FRONT, 1, "2"), copy(FRONT, 1, "2"), copy(BACK, 1, "1"));
  expect(books.devicesWith(1, FRONT.worker)).toEqual(["0", "2"]);
  expect(books.devicesWith(0, FRONT.worker)).toEqual([]);
});
