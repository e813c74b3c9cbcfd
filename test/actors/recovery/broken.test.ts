/**
 * The simulated runs can fail: a recovery that breaks one promise at a time is found out within a few seeds. Each case
 * breaks a class for as long as it lasts.
 */

import { expect, test } from "bun:test";
import { Custody } from "../../../actors/journal/custody.ts";
import { RunJournal } from "../../../actors/journal/run-journal.ts";
import { Copies } from "../../../actors/recovery/copies.ts";
import { Course } from "../../../actors/recovery/course.ts";
import { Ledger } from "../../../actors/recovery/ledger.ts";
import { Replica } from "../../../actors/recovery/replica.ts";
import { Stage } from "../../../actors/stage.ts";
import { live } from "./sim/live.ts";

const MOST_SEEDS = 100;

/**
 * What is found out while a method is broken, by the first seed from `first` on that does. The broken one gets the object,
 * and the method.
 */
async function found(
  first: number,
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
    for (let seed = first; seed < first + MOST_SEEDS; seed++) {
      const { breaches } = await live(seed);
      if (breaches.length > 0) return breaches.join("\n");
    }
    return "nothing";
  } finally {
    prototype[method] = original;
  }
}

test("copies that are made before the update", async () => {
  const said = await found(1, Stage, "commit", async (stage, commit, step, sums, meets, keeps) => {
    if (keeps) await stage.keep(step);
    return commit(step, sums, meets, false);
  });
  expect(said).toMatch(/other bits|of the losses/);
});

test("a ledger that forgets who is lost", async () => {
  expect(await found(19, Ledger, "lose", () => {})).toMatch(/it ended with/);
});

test("parts of weights that are given to other members", async () => {
  const said = await found(232, Ledger, "exact", (_, exact, step, name, holding, near) =>
    exact(step, name, { ...holding, rank: 0 }, near),
  );
  expect(said).toMatch(/other bits|of the losses|it ended with/);
});

test("replicas that were never given what is said to be there", async () => {
  expect(await found(7, Stage, "replicate", () => 1)).toMatch(/there is no copy|checkpoint/);
});

test("copies that are not given up", async () => {
  expect(await found(1, Copies, "forgetBefore", () => {})).toMatch(/copies of \d+ steps/);
});

test("replicas that are left behind", async () => {
  expect(await found(1, Replica, "keep", () => {})).toMatch(/copies of \d+ steps/);
});

test("a loss that is not told", async () => {
  const said = await found(8, Course, "commit", (course, commit, ...args) => {
    course.resuming = undefined;
    return commit(...args);
  });
  expect(said).toContain("nobody was told");
});

test("devices that keep nothing when their coordinator is lost", async () => {
  expect(await found(31, Custody, "lose", () => false)).toContain("checkpoint");
});

test("a coordinator that finds nothing to go on with", async () => {
  expect(await found(1, RunJournal, "planned", async () => {})).toContain("did not go on with the run");
});

test("a plan that is gone over to as if a step had not been made", async () => {
  const said = await found(42, Course, "goOver", (course, goOver) => {
    if (course.moves.next) course.committed--;
    return goOver();
  });
  expect(said).toMatch(/other bits|of the losses|there is no copy/);
});
