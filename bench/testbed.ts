/**
 * `bench testbed`: how well a testbed keeps what it promises. A scenario's devices are opened and measured as a run would
 * measure them, by their own actors over the real transports: lines in both directions, speeds beside each other, and how
 * fast a device answers while it computes. Each beside what was asked for.
 */

import { profileCluster } from "../actors/profile.ts";
import { linkRounds } from "../actors/profile-links.ts";
import type { LinkProfile } from "../actors/scheduler/cost.ts";
import { UsageError } from "../cli/command.ts";
import { nearest } from "../cli/nearest.ts";
import { DEFAULT_ADAMW } from "../nn/optim/adamw.ts";
import { findSegments } from "../nn/segments.ts";
import { megabytes, milliseconds, percent } from "./format.ts";
import type { Section } from "./report.ts";
import { median, quantile } from "./statistics.ts";
import { bedOf, SCENARIOS, type Scenario } from "./strategies/scenarios.ts";
import { SCENARIO_MODELS } from "./strategies/scenarios-models.ts";
import type { Suite } from "./suite.ts";
import { GOODPUT } from "./testbed/link.ts";
import { deviation, relative } from "./testbed/shares.ts";
import { openTestbed, type Testbed, type TestbedKind } from "./testbed/testbed.ts";

const SEED = 1;
/** Only the learning rate depends on it. */
const STEPS = 100;
/** For each device's runs. */
const BUDGET_MS = 3000;
const IDLE_PINGS = 50;
const PING_PAUSE_MS = 10;
const KINDS: readonly TestbedKind[] = ["namespaces", "shaped"];

export const testbed: Suite = {
  name: "testbed",
  summary: "how well emulated devices and lines are what they are to be",
  options: {
    scenario: {
      value: "name",
      help: `one of ${SCENARIOS.map(({ name }) => name).join(", ")}; default: all`,
      repeated: true,
    },
    kind: { value: "name", help: `${KINDS.join(" or ")} (default: the first that can be had here)` },
  },
  async run(options, { note }) {
    const kind = options.choice("kind", KINDS);
    const named = options.all("scenario").map(scenarioNamed);
    const figures: Record<string, unknown> = {};
    const sections: Section[] = [];
    for (const scenario of named.length > 0 ? named : SCENARIOS) {
      note(scenario.name);
      const bed = await openTestbed(bedOf(scenario), { note, ...(kind ? { kind } : {}) });
      try {
        const rows = await bed.guard(() => measure(bed, scenario));
        figures[scenario.name] = rows;
        sections.push(sectionOf(bed, scenario, rows));
      } finally {
        await bed.close();
      }
    }
    return { report: { title: "Testbed", sections, figures }, versions: [] };
  },
};

/** @throws UsageError naming the nearest. */
export function scenarioNamed(name: string): Scenario {
  const found = SCENARIOS.find((scenario) => scenario.name === name);
  if (found) return found;
  const names = SCENARIOS.map((scenario) => scenario.name);
  throw new UsageError(`there is no scenario "${name}"; the nearest is ${nearest(name, names)}`);
}

/** One device, as asked for and as measured. */
interface Row {
  readonly device: string;
  /** Parts of the sum of all devices' speeds. */
  readonly askedSpeed: number;
  readonly speed: number;
  /** Of its own line, in megabits per second of payload. */
  readonly askedMegabits: number;
  /** The median over its links whose other end is not the slower one; null where there is none. */
  readonly sentMegabits: number | null;
  readonly receivedMegabits: number | null;
  /** One way to the other devices, by median. */
  readonly askedLatencyMs: number;
  readonly latencyMs: number;
  /** From a question to its answer. */
  readonly idle: Answers;
  readonly busy: Answers;
  readonly peakBytes: number;
}

interface Answers {
  readonly medianMs: number;
  readonly mostMs: number;
}

async function measure(bed: Testbed, scenario: Scenario): Promise<Row[]> {
  const { microBatches, open } = SCENARIO_MODELS[scenario.model];
  const { model } = await open(SEED);
  const refs = bed.devices.map(({ ref }) => ref);
  const descriptions = await Promise.all(refs.map((ref) => ref.ask.describe()));
  const idle = await Promise.all(refs.map(async (_, i) => ping(bed, i, (count) => count < IDLE_PINGS)));
  let profiled = false;
  const pings = refs.map((_, i) => ping(bed, i, () => !profiled));
  const request = {
    ...{ model, microBatches, segments: findSegments(model) },
    optimizer: { ...DEFAULT_ADAMW, steps: STEPS },
    ...{ budgetMs: BUDGET_MS, split: false, sharings: [], now: () => performance.now() },
  };
  const compute = await profileCluster(refs, descriptions, { ...request, linked: () => false });
  profiled = true;
  const busy = await Promise.all(pings);
  const links = await measureLinks(bed);
  const used = await bed.usage();

  const asked = relative(bed.devices.map(({ spec }) => spec.speed));
  const speeds = relative(refs.map((_, i) => 1 / stepMs(compute.profile.devices[i]!)));
  const lines = bed.devices.map(({ spec }) => spec.line);
  return bed.devices.map(({ spec }, i) => {
    const others = [...lines.keys()].filter((other) => other !== i);
    const wide = others.filter((other) => lines[other]!.megabits >= spec.line.megabits);
    const rate = (from: number, to: number) => (links[from]![to]!.bytesPerMs * 8) / 1000;
    const medianOf = (values: number[]) => (values.length === 0 ? null : median(values));
    const latencies = others.map((other) => spec.line.latencyMs + lines[other]!.latencyMs);
    return {
      device: spec.name,
      askedSpeed: asked[i]!,
      speed: speeds[i]!,
      askedMegabits: spec.line.megabits * GOODPUT,
      sentMegabits: medianOf(wide.map((other) => rate(i, other))),
      receivedMegabits: medianOf(wide.map((other) => rate(other, i))),
      askedLatencyMs: medianOf(latencies) ?? 0,
      latencyMs: medianOf(others.map((other) => links[i]![other]!.latencyMs)) ?? 0,
      idle: idle[i]!,
      busy: busy[i]!,
      peakBytes: used[i]!.peakBytes,
    };
  });
}

/** All links in both directions, `[from][to]`; those at the same time have no device in common. */
async function measureLinks({ devices }: Testbed): Promise<LinkProfile[][]> {
  const links: LinkProfile[][] = devices.map(() => []);
  const measureOne = async (from: number, to: number) => {
    links[from]![to] = await devices[from]!.ref.ask.measureLink(devices[to]!.ref);
  };
  for (const round of linkRounds(devices.map(({ spec }) => ({ host: spec.name })))) {
    await Promise.all(round.map(([a, b]) => measureOne(a, b)));
    await Promise.all(round.map(([a, b]) => measureOne(b, a)));
  }
  return links;
}

/** Of a micro-batch: all segments. */
function stepMs({ forwardMs, backwardMs }: { forwardMs: readonly number[]; backwardMs: readonly number[] }) {
  return [...forwardMs, ...backwardMs].reduce((a, b) => a + b, 0);
}

/** Asks a device for what it answers whatever it does, for as long as is wanted. */
async function ping(bed: Testbed, device: number, isWanted: (count: number) => boolean): Promise<Answers> {
  const took: number[] = [];
  do {
    const began = performance.now();
    await bed.devices[device]!.ref.ask.describe();
    took.push(performance.now() - began);
    await Bun.sleep(PING_PAUSE_MS);
  } while (isWanted(took.length));
  return { medianMs: median(took), mostMs: quantile(took, 0.99) };
}

function sectionOf(bed: Testbed, { name, about }: Scenario, rows: readonly Row[]): Section {
  const rate = (megabits: number | null) => (megabits === null ? "–" : `${megabits.toFixed(1)} Mbit/s`);
  const answers = ({ medianMs, mostMs }: Answers) => `${milliseconds(medianMs)}, ${milliseconds(mostMs)}`;
  const off = deviation(
    rows.map(({ askedSpeed }) => askedSpeed),
    rows.map(({ speed }) => speed),
  );
  return {
    title: name,
    text: [
      about,
      ...bed.about,
      `Speeds are those of the model's segments, ${percent(off)} off what was asked for at most. Answers: median and ` +
        "99th percentile, from a question to its answer, at rest and while it is profiled, graphs being built in between.",
    ],
    table: {
      columns: [
        ...["device", "speed asked", "speed", "line asked", "sent", "received", "latency asked", "latency"],
        ...["answer at rest", "answer busy", "peak memory"],
      ],
      rows: rows.map((row) => [
        row.device,
        percent(row.askedSpeed),
        percent(row.speed),
        rate(row.askedMegabits),
        rate(row.sentMegabits),
        rate(row.receivedMegabits),
        milliseconds(row.askedLatencyMs),
        milliseconds(row.latencyMs),
        answers(row.idle),
        answers(row.busy),
        megabytes(row.peakBytes),
      ]),
    },
  };
}
