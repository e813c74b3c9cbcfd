/**
 * What is to happen to a simulated run, drawn from chance: any faults, one after the other (`faults.ts`), or a story, of
 * which each part would be harmless without the others.
 */

import { OTHERS } from "../../../../actors/scheduler/dealt.ts";
import type { Random } from "../../../../runtime/random.ts";
import {
  at,
  type Drawing,
  drawFaults,
  during,
  type Event,
  type Fault,
  type Harm,
  type Moment,
  RECOVERING,
  STEADY,
  timed,
} from "./faults.ts";
import type { Phase } from "./phases.ts";
import { pick } from "./shapes.ts";

/** Phases of a run before its first step. */
const BEGINNING: readonly Phase[] = [
  "Device.host",
  "Device.attach",
  "Stage.holds",
  "Stage.load",
  "Stage.connect",
];

export interface Fate {
  readonly faults: readonly Fault[];
  /** Whether it begins as soon as devices have been found, rather than with the first step. */
  readonly early: boolean;
}

/** Where and when is drawn. */
type Story = (random: Random, drawing: Drawing) => Fate;

/** Of all runs, those with a story. */
const STORIES = 0.5;

/** The coordinator is killed in the middle of nothing else, when some steps have been made. */
const coordinatorLost: Story = (random, { steps, workers }) => {
  const count = workers + 1 + random.integer((steps - 1) * workers);
  const delayMs = random.next() * pick(random, [1, 10, 100]);
  return later([{ when: { phase: "Stage.train", count, delayMs }, who: 0, what: coordinator(random) }]);
};

/** Somebody is lost in the middle of an all-reduce, and somebody else perhaps while that is seen to. */
const lostInReduce: Story = (random, { devices }) => {
  const lost: Fault = { when: at(random, ["Stage.reduce"], 20), who: "there", what: { kind: gone(random) } };
  const other: Fault = { when: at(random, RECOVERING, devices), who: "there", what: { kind: gone(random) } };
  return later(random.next() < 0.5 ? [lost] : [lost, other]);
};

/** Several are lost in a step, one after the other, at whatever each of them and the others are then. */
const oneByOne: Story = (random, drawing) => {
  const withinMs = pick(random, [3, 10, 30]);
  const lost = (when: Moment): Fault => ({
    when,
    who: random.integer(drawing.devices),
    what: { kind: gone(random) },
  });
  const others = Array.from({ length: pick(random, [0, 1, 1, 2]) }, () => lost(timed(random, withinMs)));
  return later([lost(during(random, drawing)), ...others]);
};

/** Somebody is lost that is through with a step, and others perhaps that are not. */
const lostWhenThrough: Story = (random, { workers }) => {
  const when: Moment = {
    phase: "Stage.through",
    count: 1 + random.integer(2 * workers),
    delayMs: pick(random, [0, 1, 3]),
  };
  const lost: Fault = { when, who: "there", what: { kind: gone(random) } };
  const others = Array.from(
    { length: pick(random, [0, 0, 1, 2]) },
    (): Fault => ({
      when: pick(random, [timed(random, 3), timed(random, 10), at(random, ["Stage.connect"], workers)]),
      who: random.integer(workers),
      what: { kind: gone(random) },
    }),
  );
  return later([lost, ...others]);
};

/** Two do not reach each other for a while; meanwhile a third is lost, and what they have sent comes behind that. */
const lateMail: Story = (random, drawing) => {
  const { devices } = drawing;
  const first = random.integer(devices);
  const further = (places: number) => (first + places) % devices;
  const block: Harm = { kind: "block", other: further(1), ms: pick(random, [20, 100, 1000]) };
  return later([
    { when: during(random, drawing), who: first, what: block },
    { when: timed(random, 20), who: further(2), what: { kind: "kill" } },
  ]);
};

/** The coordinator is killed while the run goes over to another plan. */
const coordinatorLostInMove: Story = (random, drawing) =>
  later([
    { when: during(random, drawing), who: 0, what: { kind: "migrate", number: random.integer(1000) } },
    { when: at(random, RECOVERING, drawing.devices), who: 0, what: coordinator(random) },
  ]);

/** A device is cut off, comes again as it was, has work again because others have less or are lost, and is lost. */
const comesAgain: Story = (random, drawing) => {
  const who = random.integer(drawing.devices);
  const other = (who + 1) % drawing.devices;
  const taken: Moment = { phase: "Device.attach", count: 1, delayMs: pick(random, [10, 100]) };
  const isMoved = random.next() < 0.5;
  return later([
    { when: at(random, STEADY, 4), who, what: { kind: "cut", other: null } },
    { when: timed(random, 20), who, what: { kind: "return" } },
    isMoved
      ? { when: taken, who, what: { kind: "migrate", number: random.integer(1000) } }
      : { when: taken, who: other, what: { kind: gone(random) } },
    { when: during(random, { ...drawing, steps: 2 }), who, what: { kind: gone(random) } },
  ]);
};

/** All are gone, before the first step or behind it, and some come again. */
const allLost: Story = (random, drawing) => {
  const early = random.next() < 0.5;
  const when = early ? at(random, BEGINNING, 2) : during(random, drawing);
  return { faults: [{ when, who: 0, what: { kind: "blackout", silent: random.next() < 0.5 } }], early };
};

/** The coordinator is killed while a device is taken in. */
const coordinatorLostInJoin: Story = (random, drawing) =>
  later([
    { when: during(random, drawing), who: 0, what: { kind: "join" } },
    { when: at(random, ["Device.describe", "Device.attach"], 2), who: 0, what: coordinator(random) },
  ]);

/** A device comes, the run goes over to a plan that may use it, and it or another is lost. */
const lostInJoin: Story = (random, drawing) =>
  later([
    { when: at(random, STEADY, 4), who: 0, what: { kind: "join" } },
    { when: timed(random, 100), who: 0, what: { kind: "migrate", number: random.integer(1000) } },
    { when: at(random, RECOVERING, drawing.devices), who: "there", what: { kind: gone(random) } },
  ]);

/** Two devices come, one after the other is given its copy of what a stage holds, and one or another is lost. */
const lostInFirstStep: Story = (random, drawing) => {
  const grows = (): Event => ({ kind: "migrate", number: 2 * random.integer(500) });
  const given: Moment = { phase: "Stage.fetch", count: 1, delayMs: pick(random, [0, 1, 10, 100]) };
  return later([
    { when: at(random, STEADY, 2), who: 0, what: { kind: "join" } },
    { when: timed(random, 20), who: 0, what: { kind: "join" } },
    { when: timed(random, 100), who: 0, what: grows() },
    { when: given, who: 0, what: grows() },
    {
      when: at(random, [...RECOVERING, "Stage.train"], drawing.devices),
      who: "there",
      what: { kind: gone(random) },
    },
  ]);
};

const ALWAYS = [
  coordinatorLost,
  coordinatorLost,
  coordinatorLost,
  lostInReduce,
  lateMail,
  coordinatorLostInMove,
];
const WHERE_MANY = [lostInReduce, oneByOne, oneByOne, lostWhenThrough, lostWhenThrough, lostWhenThrough];
const WHERE_DEVICES_COME = [
  comesAgain,
  comesAgain,
  comesAgain,
  allLost,
  coordinatorLostInJoin,
  lostInJoin,
  lostInFirstStep,
];

export function drawFate(random: Random, drawing: Drawing): Fate {
  const always = drawing.workers > OTHERS ? [...ALWAYS, ...WHERE_MANY] : ALWAYS;
  const stories = drawing.waits ? [...always, ...WHERE_DEVICES_COME] : always;
  if (random.next() < STORIES) return pick(random, stories)(random, drawing);
  return { faults: drawFaults(random, drawing), early: random.next() < 0.2 };
}

function later(faults: readonly Fault[]): Fate {
  return { faults, early: false };
}

function gone(random: Random): "kill" | "vanish" {
  return pick(random, ["kill", "kill", "vanish"]);
}

function coordinator(random: Random): Event {
  const afterMs = pick(random, [10, 300, 4000]);
  return { kind: "coordinator", silent: random.next() < 0.3, afterMs };
}
