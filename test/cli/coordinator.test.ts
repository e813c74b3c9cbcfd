/**
 * Coordinators of real runs that are killed, at any moment: the same command goes on with the run on the same devices, which
 * have waited, and it ends with the weights of a run that was spared.
 */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Event, TINY, Troupe } from "./troupe.ts";

const STEPS = 14;
const RUN = [
  ...["--layers", "2", "--steps", `${STEPS}`, "--seed", "7", "--sample", "0"],
  ...["--validate-every", "5", "--checkpoint-every", "8"],
];

let folder: string;
const running: Troupe[] = [];
let devices: Node[];
let spared: Event;

function start(...args: readonly string[]): Troupe {
  const each = new Troupe(args);
  running.push(each);
  return each;
}

interface Node {
  readonly troupe: Troupe;
  readonly address: string;
}

async function nodes(count: number): Promise<Node[]> {
  const started = Array.from({ length: count }, (_, i) =>
    start("node", "--json", "--listen", "tcp://127.0.0.1:0", "--name", `node-${i + 1}`),
  );
  return Promise.all(
    started.map(async (troupe) => {
      const { address } = await troupe.until(({ event }) => event === "listening");
      return { troupe, address };
    }),
  );
}

const out = (name: string) => join(folder, name);
const train = (name: string) =>
  start(
    ...["train", "--json", ...TINY.slice(2), ...RUN, "--out", out(name)],
    ...devices.flatMap(({ address }) => ["--join", address]),
  );

async function end(run: Troupe): Promise<readonly Event[]> {
  const { code, err, events } = await run.ended();
  expect([code, err]).toEqual([0, ""]);
  return events;
}

/** Without asking, as soon as an event is there. */
async function killAt(run: Troupe, fits: (event: Event) => boolean): Promise<readonly Event[]> {
  await run.until(fits);
  run.process.kill("SIGKILL");
  return (await run.ended()).events;
}

const named = (events: readonly Event[], name: string) => events.filter(({ event }) => event === name);
const atStep = (step: number) => (event: Event) => event.event === "step" && event.step === step;

/** What the results say of steps. */
function losses(name: string): { step: number; loss: number; validation?: number }[] {
  const text = readFileSync(join(out(name), "loss.jsonl"), "utf8");
  return text
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "troupe-coordinator-"));
  devices = await nodes(3);
  spared = (await end(train("spared"))).at(-1)!;
}, 180_000);
afterAll(() => {
  for (const each of running) each.destroy();
  rmSync(folder, { recursive: true, force: true });
});

test("a coordinator is killed again and again: in a step, between steps, while it takes over", async () => {
  const points = [
    atStep(3),
    ({ event }: Event) => event === "resumed",
    ({ event, step }: Event) => event === "validation" && step === 5,
    ({ event }: Event) => event === "checkpoint",
  ];
  let last = 0;
  const check = (events: readonly Event[]) => {
    const [resumed] = named(events, "resumed");
    if (resumed) {
      expect(resumed).toMatchObject({ from_checkpoint: false });
      expect(resumed.steps_lost).toBeWithin(0, 2);
      // Nothing that was told before is told again, but one step at most.
      expect(resumed.step).toBeGreaterThanOrEqual(last - 1);
    }
    const steps = named(events, "step").map(({ step }) => step as number);
    const first = resumed?.step ?? 0;
    expect(steps).toEqual(steps.map((_, i) => first + i + 1));
    last = steps.at(-1) ?? last;
  };
  for (const point of points) check(await killAt(train("killed"), point));
  const events = await end(train("killed"));
  check(events);
  expect(named(events, "device_joined").map(({ name }) => name)).toEqual(["node-1", "node-2", "node-3"]);
  expect(events.at(-1)).toMatchObject({ event: "done", weights_sha256: spared.weights_sha256 });
  expect(losses("killed")).toEqual(losses("spared"));
}, 180_000);

test("a device is killed with it: others have copies of what it held", async () => {
  const run = train("both");
  await run.until(atStep(6));
  devices[1]!.troupe.process.kill("SIGKILL");
  run.process.kill("SIGKILL");
  await run.ended();
  // By what is in the folder alone.
  const events = await end(start("train", "--json", "--resume", out("both")));
  expect(named(events, "device_left")[0]).toMatchObject({ name: "node-2" });
  expect(named(events, "resumed")[0]).toMatchObject({ from_checkpoint: false });
  expect(events.at(-1)).toMatchObject({ event: "done", weights_sha256: spared.weights_sha256 });
  expect(losses("both")).toEqual(losses("spared"));
}, 180_000);
