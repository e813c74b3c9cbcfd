/**
 * The simulated runs can fail: a recovery that breaks one promise at a time is found out by seeds
 * that bring it about. Each case breaks a class for as long as it lasts. Where the worlds have changed, and a seed does not
 * bring it about any more, others do: within a few dozen.
 */

import { expect, test } from "bun:test";
import { Custody } from "../../../actors/journal/custody.ts";
import { RunJournal } from "../../../actors/journal/run-journal.ts";
import { Copies } from "../../../actors/recovery/copies.ts";
import { Course } from "../../../actors/recovery/course.ts";
import { Ledger } from "../../../actors/recovery/ledger.ts";
import { Replica } from "../../../actors/recovery/replica.ts";
import { Roster } from "../../../actors/recovery/roster.ts";
import { Stage } from "../../../actors/stage.ts";
import { live } from "./sim/live.ts";

/**
 * What is found out while a method is broken, by the first of some seeds that does; each does where it was chosen. The broken
 * one gets the object, and the method.
 */
async function found(
  seeds: readonly number[],
  type: { prototype: object },
  method: string,
  broken: (self: any, original: (...args: any[]) => any, ...args: any[]) => unknown,
): Promise<string> {
  const prototype = type.prototype as any;
  const original = prototype[method];
  prototype[method] = function (...args: unknown[]) {
    return broken(this, original.bind(this), ...args);
  };
  try {
    for (const seed of seeds) {
      const { breaches } = await live(seed);
      if (breaches.length > 0) return breaches.join("\n");
    }
    return "nothing";
  } finally {
    prototype[method] = original;
  }
}

test("copies that are made before the update", async () => {
  const said = await found([1, 2], Stage, "commit", async (stage, commit, step, sums, meets, keeps) => {
    if (keeps) await stage.keep(step);
    return commit(step, sums, meets, false);
  });
  expect(said).toMatch(/before it is made|other bits|of the losses/);
});

test("a ledger that forgets who is lost", async () => {
  expect(await found([8, 5], Ledger, "lose", () => {})).toMatch(/it ended with/);
});

test("parts of weights that are given to other members", async () => {
  const said = await found([151, 295], Ledger, "exact", (_, exact, step, name, holding, near) =>
    exact(step, name, { ...holding, rank: 0 }, near),
  );
  expect(said).toMatch(/other bits|of the losses|it ended with/);
});

test("replicas that were never given what is said to be there", async () => {
  expect(await found([7, 20], Stage, "replicate", () => 1)).toMatch(/there is no copy|checkpoint/);
});

test("copies that are not given up", async () => {
  expect(await found([2, 5], Copies, "forgetBefore", () => {})).toMatch(/copies of \d+ steps/);
});

test("replicas that are left behind", async () => {
  expect(await found([4, 5], Replica, "keep", () => {})).toMatch(/a replica had copies of \d+ steps/);
});

test("copies of steps that are made again", async () => {
  expect(await found([4, 17], Copies, "forgetAfter", () => {})).toContain("before it is made");
});

test("a loss that is not told", async () => {
  const said = await found([4, 1], Course, "commit", (course, commit, ...args) => {
    course.resuming.end(course.plan);
    return commit(...args);
  });
  expect(said).toContain("nobody was told");
});

test("a device that has come again, and is taken for the one that it was before", async () => {
  const said = await found([87, 148], Roster, "idOf", (roster, _, { key }) =>
    String(roster.devices.findIndex((device: { key: string }) => device.key === key)),
  );
  expect(said).toMatch(/it ended with|waits for ever/);
});

test("a run that does not hear who has come", async () => {
  expect(await found([30, 5], Roster, "arrived", () => {})).toContain("waits for ever");
});

test("tensors of a generation that is over", async () => {
  const said = await found([1, 225], Stage, "deliver", (_, deliver, slip, tensor) => {
    try {
      return deliver(slip, tensor);
    } catch (error) {
      const [, generation] = /^generation (\d+) got a tensor/.exec((error as Error).message) ?? [];
      if (generation === undefined) throw error;
      return deliver({ ...slip, generation: Number(generation) }, tensor);
    }
  });
  expect(said).toMatch(/nobody has taken|other bits|a second tensor/);
});

test("devices that keep nothing when their coordinator is lost", async () => {
  expect(await found([9, 11], Custody, "lose", () => false)).toContain("checkpoint");
});

test("stages that do not keep their last step when their coordinator is lost", async () => {
  expect(await found([116, 152], Stage, "hold", async () => {})).toMatch(/coordinator \d+ repeats \d steps/);
});

test("a coordinator that finds nothing to go on with", async () => {
  expect(await found([11, 13], RunJournal, "planned", async () => {})).toContain(
    "did not go on with the run",
  );
});

test("a plan that is gone over to as if a step had not been made", async () => {
  const said = await found([7, 14], Course, "goOver", (course, goOver) => {
    if (course.moves.isNext) {
      course.committed--;
      // It is not in the middle of that one.
      course.moves.underWay.end();
    }
    return goOver();
  });
  expect(said).toMatch(/other bits|of the losses|there is no copy/);
});
