import { expect, test } from "bun:test";
import { UnderWay } from "../../../actors/recovery/under-way.ts";
import type { Plan } from "../../../actors/scheduler/plan.ts";

test("a step is begun once, however often it goes on, and anew when nothing of it does", () => {
  let now = 1000;
  const underWay = new UnderWay({ now: () => now } as never);
  const [first, dealt] = [{ digest: "first" }, { digest: "dealt" }] as unknown as [Plan, Plan];
  expect([underWay.isIn(4), underWay.midway(4)]).toEqual([false, undefined]);
  underWay.begin(4, first);
  now += 30;
  underWay.begin(4, dealt);
  expect(underWay.midway(4)).toEqual({ begun: first, elapsedMs: 30 });
  expect([underWay.isIn(5), underWay.midway(5)]).toEqual([false, undefined]);
  underWay.end();
  expect(underWay.midway(4)).toBeUndefined();
  underWay.begin(4, dealt);
  now += 5;
  expect(underWay.midway(4)).toEqual({ begun: dealt, elapsedMs: 5 });
  underWay.begin(5, first);
  expect([underWay.isIn(4), underWay.isIn(5)]).toEqual([false, true]);
  expect(underWay.midway(5)!.elapsedMs).toBe(0);
});
