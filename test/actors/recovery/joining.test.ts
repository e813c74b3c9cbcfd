/** Devices that join are measured at the same time, those of one machine one after the other, and no more than a few. */

import { expect, test } from "bun:test";
import { Joining } from "../../../actors/recovery/joining.ts";
import { Roster } from "../../../actors/recovery/roster.ts";
import { gptModel } from "../../../nn/models/gpt.ts";
import { DEFAULT_ADAMW } from "../../../nn/optim/adamw.ts";
import { VirtualClock } from "../../../runtime/clock.ts";
import { inTime } from "./in-time.ts";

const MEASURED_MS = 1000;
const model = gptModel({ layers: 1, width: 4, heads: 1, context: 2, vocabulary: 4 }, 1);

/** Devices on these machines come to a run at once, each of which takes a second to be measured. */
function arrivals(hosts: readonly string[], breaks: (place: number) => boolean = () => false) {
  const clock = new VirtualClock();
  const log: string[] = [];
  const under = { now: 0, most: 0 };
  const byHost = new Map<string, number>();
  const devices = hosts.map((host, place) => ({
    ask: {
      describe: async () => ({
        host,
        name: `device-${place}`,
        engine: `${place}`,
        class: "laptop",
        memoryBytes: 1,
      }),
      profile: async () => {
        under.most = Math.max(under.most, ++under.now);
        byHost.set(host, (byHost.get(host) ?? 0) + 1);
        expect(byHost.get(host)).toBe(1);
        await clock.sleep(MEASURED_MS);
        under.now--;
        byHost.set(host, byHost.get(host)! - 1);
        if (breaks(place)) throw new Error("it is gone");
        return { segments: [], chunk: {} };
      },
      measureLink: async () => ({ latencyMs: 1, bytesPerMs: 1 }),
    },
  }));
  const roster = new Roster([], clock, {} as never);
  const added: string[] = [];
  const course = {
    plan: { stages: [] },
    enlist: async ([id]: string[]) => void log.push(`enlisted ${id}`),
    joined: () => log.push("joined"),
    moves: {
      replanner: {
        measured: () => ({ devices: {} }),
        add: ({ id }: { id: string }) => added.push(id),
      },
    },
  };
  const optimizer = { ...DEFAULT_ADAMW, warmup: 0, steps: 1 };
  const request = () => ({ model, microBatches: 1, segments: [], optimizer, now: () => clock.now() });
  return { clock, devices, roster, course, log, under, added, request };
}

function joiningOf(
  world: ReturnType<typeof arrivals>,
  started: Promise<unknown> = Promise.resolve(),
): Joining {
  return new Joining(world as never, started, world.request as never);
}

test("who comes at once is measured at once, and taken in one after the other", async () => {
  const world = arrivals(["a", "b", "c"]);
  const { clock, devices, roster, log, added, under } = world;
  const joining = joiningOf(world);
  const known = await inTime(
    clock,
    Promise.all(devices.map((device) => joining.join(roster.add(device as never)))),
  );
  expect(known.map(({ name }) => name)).toEqual(["device-0", "device-1", "device-2"]);
  expect(clock.now()).toBe(MEASURED_MS);
  expect(under.most).toBe(3);
  expect(added.toSorted()).toEqual(["0", "1", "2"]);
  expect(log.filter((line) => line === "joined")).toHaveLength(3);
  expect(roster.living().map(({ id }) => id)).toEqual(["0", "1", "2"]);
});

test("of one machine one is measured after the other", async () => {
  const world = arrivals(["a", "b", "a", "b", "a"]);
  const { clock, devices, roster, under } = world;
  const joining = joiningOf(world);
  await inTime(clock, Promise.all(devices.map((device) => joining.join(roster.add(device as never)))));
  expect(clock.now()).toBe(3 * MEASURED_MS);
  expect(under.most).toBe(2);
});

test("a hundred take as long as thirteen one after the other, not as a hundred", async () => {
  const world = arrivals(Array.from({ length: 100 }, (_, i) => `host-${i}`));
  const { clock, devices, roster, under, added } = world;
  const joining = joiningOf(world);
  await inTime(clock, Promise.all(devices.map((device) => joining.join(roster.add(device as never)))));
  expect(clock.now()).toBe(13 * MEASURED_MS);
  expect(under.most).toBe(8);
  expect(added).toHaveLength(100);
});

test("one that fails meanwhile is not used, and holds nobody up", async () => {
  const world = arrivals(["a", "a", "b"], (place) => place === 0);
  const { clock, devices, roster, added } = world;
  const joining = joiningOf(world);
  const joined = devices.map((device) => joining.join(roster.add(device as never)));
  const results = await inTime(clock, Promise.allSettled(joined));
  expect(results.map(({ status }) => status)).toEqual(["rejected", "fulfilled", "fulfilled"]);
  expect(roster.isGone("0")).toBe(true);
  expect(added.toSorted()).toEqual(["1", "2"]);
});

test("nobody is measured before the run has begun", async () => {
  const world = arrivals(["a"]);
  const { clock, devices, roster, under } = world;
  const started = Promise.withResolvers<void>();
  const joining = joiningOf(world, started.promise);
  const joined = joining.join(roster.add(devices[0] as never));
  await clock.advance(10 * MEASURED_MS);
  expect(under.most).toBe(0);
  started.resolve();
  await inTime(clock, joined);
  expect(under.most).toBe(1);
});
