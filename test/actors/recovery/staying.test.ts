/** Who stays when others are lost: stages that are as they were go on with what they have, and nothing else is started or moved. */

import { beforeAll, describe, expect, test } from "bun:test";
import type { Fault } from "../../../actors/chaos/fault.ts";
import { Inbox } from "../../../actors/inbox.ts";
import { Outbox } from "../../../actors/stage/outbox.ts";
import { Stage } from "../../../actors/stage.ts";
import { closedBehindTests } from "../clusters.ts";
import * as runs from "./runs.ts";
import { bitsAfter, killed, operationsOf, watched as watchedBy, whileBroken } from "./watched.ts";

const { bitsOf, LAST, STEPS } = runs;

const clusters = closedBehindTests();

const watched = (shape: runs.Shape, faults: readonly Fault[] = [], copies = 1) =>
  watchedBy(clusters, shape, faults, { copies });

/** Of the pipeline, when nobody is lost. */
let spared: Readonly<Record<string, string>>;
beforeAll(async () => {
  spared = await bitsAfter(await watched({ stages: runs.PIPELINE }));
});

test.each([
  ["in a step", runs.PIPELINE, { step: 3, microBatch: 1, phase: "backward" }],
  ["when others have committed it", runs.PIPELINE, { step: 3, phase: "commit" }],
  ["of a stage shared by data", runs.SHARED_BY_DATA.stages, { step: 3, microBatch: 1 }],
  ["of a stage shared by tensor", runs.SHARED_BY_TENSOR.stages, { step: 3, microBatch: 1 }],
] as const)("a device is lost %s: its stage alone is started anew", async (_, stages, at) => {
  const whole = stages === runs.PIPELINE ? spared : await bitsAfter(await watched({ stages }));
  const cluster = await watched({ stages }, [killed(1, at)]);
  expect(await bitsAfter(cluster)).toEqual(whole);
  const [told] = cluster.told;
  const [successor] = told!.plan.devices.filter(({ reason }) => reason.startsWith("takes over"));
  expect(cluster.started).toEqual(["0 0", "1 1", "2 2", `${successor!.id} 1`]);
  // What it held was there already.
  expect(told!.movedBytes).toBe(0);
});

test("a run goes over to a plan that differs in one cut: the stage before it stays", async () => {
  const cluster = await watched({ stages: runs.PIPELINE });
  const { scheduler } = cluster;
  await scheduler.ask.step(0, LAST);
  await scheduler.ask.migrate(runs.handPlan({ stages: [{ to: [2] }, { to: [4] }, { to: [6] }] }));
  for (let step = 1; step < STEPS; step++) await scheduler.ask.step(step, LAST);
  expect(cluster.started).toEqual(["0 0", "1 1", "2 2", "1 1", "2 2"]);
  expect(await bitsOf(cluster)).toEqual(spared);
});

describe("a step goes on where it is", () => {
  const plan = runs.handPlan({ stages: runs.PIPELINE });
  const of = (...workers: number[]) => operationsOf({ plan }, ...workers);
  test.each([
    [0, { step: 3, microBatch: 0, phase: "backward" }],
    [1, { step: 3, microBatch: 3, phase: "forward" }],
    [2, { step: 3, microBatch: 3, phase: "backward" }],
  ] as const)(
    "device %i is lost at %p: its stage's own part of it is all that is carried out again",
    async (device, at) => {
      const cluster = await watched({ stages: runs.PIPELINE }, [killed(device, at)]);
      expect(await bitsAfter(cluster)).toEqual(spared);
      expect(cluster.told).toHaveLength(1);
      expect(cluster.told[0]).toMatchObject({ stepsLost: 0, operationsReplayed: of(device) });
    },
  );

  test("two are lost at once: so are their parts", async () => {
    const at = { step: 3, microBatch: 2, phase: "forward" } as const;
    const cluster = await watched({ stages: runs.PIPELINE }, [killed(0, at), killed(2, at)], 2);
    expect(await bitsAfter(cluster)).toEqual(spared);
    const again = cluster.told.reduce((sum, { operationsReplayed }) => sum + operationsReplayed, 0);
    // One may have been replaced before the other was lost.
    expect(again).toBeWithin(of(0, 2), 2 * of(0, 2));
    expect(cluster.told.every(({ stepsLost }) => stepsLost === 0)).toBe(true);
  });

  test("another is lost while it is given what the first has held", async () => {
    const cluster = await watched(
      { stages: runs.PIPELINE },
      [killed(1, { step: 3, microBatch: 2, phase: "backward" })],
      2,
    );
    // Either of the others may take its place.
    let second = -1;
    const fetching = (stage: Stage, fetch: (...args: any[]) => any, ...args: any[]) => {
      if (second < 0) second = cluster.hosts.indexOf(stage.context.node);
      void cluster.hosts[second]!.close(0);
      return fetch(...args);
    };
    expect(await whileBroken(Stage, "fetch", fetching, () => bitsAfter(cluster))).toEqual(spared);
    expect(cluster.told).toHaveLength(1);
    expect(cluster.told[0]).toMatchObject({ stepsLost: 0, operationsReplayed: of(1, second) });
  });

  test.each([0, 1, 2])("worker %i is lost in the commit, which the others have made", async (device) => {
    const torn = await watched({ stages: runs.PIPELINE }, [killed(device, { step: 3, phase: "commit" })]);
    expect(await bitsAfter(torn)).toEqual(spared);
    expect(torn.told).toMatchObject([{ stepsLost: 0, operationsReplayed: of(device) }]);
  });

  test("not where work within a pass is shared: then all of it is begun again", async () => {
    const shared = await watched(runs.SHARED_BY_TENSOR, [killed(1, { step: 3, microBatch: 1 })]);
    await bitsAfter(shared);
    expect(shared.told[0]!.operationsReplayed).toBe(operationsOf(shared, 0, 1, 2));
  });
});

describe("found out", () => {
  /** What a run comes to while a method is broken: its bits, or what it ends with. */
  async function broken(
    fault: Fault,
    type: { prototype: object },
    method: string,
    instead: (original: (...args: any[]) => any, ...args: any[]) => unknown,
    stages: runs.Shape["stages"] = runs.PIPELINE,
  ): Promise<unknown> {
    const run = async () => bitsAfter(await watched({ stages }, [fault]));
    return whileBroken(type, method, (_, ...args) => instead(...args), run).catch(({ code }) => code);
  }

  test("a stage that says that it holds what it does not", async () => {
    const { stages } = runs.SHARED_BY_TENSOR;
    const whole = await bitsAfter(await watched({ stages }));
    const falsely = async (resume: (...args: any[]) => any, ...args: any[]) => {
      return { ...(await resume(...args)), holds: true };
    };
    const fault = killed(1, { step: 3, phase: "commit" });
    expect(await broken(fault, Stage, "resume", falsely, stages)).not.toEqual(whole);
  });

  test("what was sent, and is written over before it is sent again", async () => {
    const fault = killed(1, { step: 3, microBatch: 3, phase: "backward" });
    const bits = await broken(fault, Outbox, "add", (add, workers, slip, tensor, codec) => {
      const sent = add(workers, slip, tensor, codec);
      sent.tensor = tensor;
      return sent;
    });
    expect(bits).not.toEqual(spared);
  });

  test("a stage that takes what it has had already", async () => {
    const fault = killed(1, { step: 3, microBatch: 0, phase: "forward" });
    expect(await broken(fault, Inbox, "passOver", () => {})).toBe("INBOX");
  });
});
