/**
 * Devices that come to a run while it goes on: by themselves to where it listens, and again after they were killed. A run that
 * nobody is left for waits, and ends with the weights of one that was spared.
 */

import { afterAll, afterEach, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Event, TINY, Troupe } from "./troupe.ts";

const STEPS = 60;
const RUN = [
  ...["--layers", "2", "--steps", `${STEPS}`, "--seed", "7", "--sample", "0"],
  ...["--validate-every", "1000", "--checkpoint-every", "10"],
];

let folder: string;
let running: Troupe[] = [];

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "troupe-joining-"));
});
afterEach(() => {
  for (const each of running) each.destroy();
  running = [];
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function start(...args: readonly string[]): Troupe {
  const each = new Troupe(args);
  running.push(each);
  return each;
}

const train = (out: string, ...args: readonly string[]) =>
  start("train", "--json", ...TINY.slice(2), ...RUN, ...args, "--out", join(folder, out));

const node = (name: string, ...args: readonly string[]) =>
  start("node", "--json", "--name", name, "--chaos", ...args);

const named = (events: readonly Event[], name: string) => events.filter(({ event }) => event === name);
const is = (name: string) => (event: Event) => event.event === name;

/** The first event of a kind behind so many others. */
function next(run: Troupe, fits: (event: Event) => boolean): Promise<Event> {
  const from = run.events.length;
  return run.until((event) => run.events.indexOf(event) >= from && fits(event));
}

async function end(run: Troupe): Promise<Event> {
  const { code, err, events } = await run.ended();
  expect([code, err]).toEqual([0, ""]);
  return events.at(-1)!;
}

test("nodes come, are killed, and come again: the run waits where nobody is left, and has the weights of a spared one", async () => {
  const spared = await end(train("spared", "--devices", "1", "--strategy", "pipeline"));
  const desk = node("desk", "--listen", "tcp://127.0.0.1:0");
  const place = (await desk.until(is("listening"))).address;
  // Slow, so that there is time for others to come.
  const faults = "kill desk at step 3; slow desk 20x at step 5";
  const run = train("run", "--listen", "tcp://127.0.0.1:0", "--join", place, "--chaos", faults);
  const { address } = await run.until(is("listening"));
  expect(await run.until(is("paused"))).toMatchObject({ reason: "desk gone: no device is left" });

  // Where it was, which is called upon as long as nobody answers.
  const again = node("desk", "--listen", place);
  expect(await next(run, is("device_joined"))).toMatchObject({ name: "desk", address: place });
  await next(run, is("resumed"));
  await next(run, is("step"));
  // Another one, while the run goes on.
  const phone = node("phone", "--join", address);
  expect(await phone.until(is("joined"))).toMatchObject({ name: "coordinator", address });
  await run.until(({ event, name }) => event === "device_joined" && name === "phone");
  const thought = await next(run, ({ cause }) => cause === "joined");
  expect(["replanned", "plan_kept"]).toContain(thought.event);
  again.process.kill("SIGKILL");
  expect(await next(run, is("device_left"))).toMatchObject({ name: "desk" });

  const done = await end(run);
  expect(done.weights_sha256).toBe(spared.weights_sha256);
  expect(done.devices.map(({ name }: { name: string }) => name)).toEqual(["phone"]);
  expect(done.devices_lost).toEqual(["desk"]);
  expect(named(run.events, "device_left").map(({ name }) => name)).toEqual(["desk", "desk"]);
  // It is slow: the run may have gone over to the other one alone by then.
  const left = run.events.findLastIndex(is("device_left"));
  const { plan } = run.events.slice(0, left).findLast((event) => event.plan)!;
  const works = plan.stages.some(({ members }: any) => members.some((own: any) => own.deviceName === "desk"));
  const told = named(run.events.slice(left), "recovered").map(({ lost }) => lost);
  expect(told).toEqual(works ? [["desk"]] : []);
}, 300_000);

test("the coordinator is killed, and finds the nodes again that had come by themselves", async () => {
  const listener = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  const address = `tcp://127.0.0.1:${listener.port}`;
  listener.stop(true);
  const lead = () => train("led", "--listen", address);
  const first = lead();
  expect(await first.until(is("paused"))).toEqual({ event: "paused", reason: "no device has come yet" });
  // One that does not stay does not end what has not begun.
  const guest = node("guest", "--join", address);
  await first.until(is("device_joined"));
  guest.process.kill("SIGKILL");
  expect((await next(first, is("paused"))).reason).toContain("guest");
  const nodes = ["desk", "phone"].map((name) => node(name, "--join", address));
  await Promise.all(nodes.map((each) => each.until(is("joined"))));
  await first.until(({ event, name }) => event === "device_joined" && name === "desk");
  await next(first, is("step"));
  first.process.kill("SIGKILL");
  await first.ended();
  const second = lead();
  expect(await second.until(is("resumed"))).toMatchObject({ from_checkpoint: false });
  const done = await end(second);
  expect(named(second.events, "device_left")).toEqual([]);
  expect(done.devices.map(({ name }: { name: string }) => name).sort()).toEqual(["desk", "phone"]);
  // A run that is over leaves them to the next.
  expect(nodes.map(({ process }) => process.exitCode)).toEqual([null, null]);
}, 300_000);
