/**
 * `bench churn`: what is left of a run's speed when its devices come and go all the time, simulated for a thousand of them:
 * imagined devices and links, times from the planner's simulator, decisions from the code that runs make them with.
 */

import { OTHERS as LEAST_OTHERS } from "../actors/scheduler/dealt.ts";
import { type Plan, workersOf } from "../actors/scheduler/plan.ts";
import { makePlan } from "../actors/scheduler/planner.ts";
import { DEFAULT_PATIENCE_MS } from "../runtime/times.ts";
import type { Assumed, ChurnRun, Rules } from "./churn/rules.ts";
import { runInSpans } from "./churn/span.ts";
import { tellingMs } from "./churn/telling.ts";
import { runWhole } from "./churn/whole.ts";
import { type ChurnWorld, CLASSES, LINK, MODEL, withChurn, worldOf } from "./churn/world.ts";
import { percent, whole } from "./format.ts";
import type { Section } from "./report.ts";
import type { Suite } from "./suite.ts";

const DEVICES = 1000;
const CHURN = 0.1;
const MINUTES = 30;
const SEED = 7;
/** Sequences in a micro-batch, of which less is lost the fewer they are; micro-batches in a step, for each device. */
const ROWS = 1;
const PER_DEVICE = 12;
/** Fine-tuned by adapters of so many rows. */
const TUNING = { rows: ROWS, adapters: 8 } as const;
/** Runs that differ from the first in one thing are shorter. */
const SHORTER = 10;
/** Steps take half a minute. */
const LEAST_MINUTES = 4;
const CHURNS = [0.01, 0.05, 0.1, 0.2, 0.5];
/** Devices of smaller runs. */
const FEWER = [10, 30, 100];
const EVERY = [1, 2, 5, 10];
/** Times in a run at which all is planned anew, and gone over to where that pays. */
const FULL_PLANS = 1;

/** What the runtime does. */
const RULES: Rules = { again: "each", given: "beside" };

/** What it might do. */
const OTHERS: readonly { readonly name: string; readonly rules: Rules }[] = [
  { name: "as it is", rules: RULES },
  { name: "all come to rest", rules: { again: "all", given: "beside" } },
  { name: "given between steps", rules: { again: "each", given: "between" } },
  { name: "done again by one", rules: { again: "one", given: "beside" } },
  { name: "order kept", rules: { ...RULES, order: "kept" } },
  { name: "and others first", rules: { ...RULES, order: "ready" } },
];

/** A link that closes is known to be closed within 50 ms; the rest is assumed. */
const ASSUMED: Omit<Assumed, "tellMs"> = {
  ...{ closedMs: 50, silentMs: DEFAULT_PATIENCE_MS, silent: 0 },
  ...{ profileMs: 2000, startMs: 2000, planMs: 2000, rules: RULES },
};

interface Named {
  readonly name: string;
  readonly run: ChurnRun;
}

const goodput = ({ steps, idealSteps }: ChurnRun): number => steps / idealSteps;
const seconds = (ms: number): string => `${(ms / 1000).toFixed(1)} s`;

export const churn: Suite = {
  name: "churn",
  summary: "simulated: goodput of a thousand devices of which a tenth leaves or joins every minute",
  options: {
    devices: { value: "N", help: `that are there on average (default: ${DEVICES})` },
    churn: { value: "x", help: `part of them that leaves or joins in a minute (default: ${CHURN})` },
    minutes: { value: "N", help: `that are simulated (default: ${MINUTES})` },
    seed: { value: "N", help: `of who leaves and joins when (default: ${SEED})` },
    quick: { help: "few devices and minutes: tries the bench, says nothing about a thousand" },
  },
  run: async (options, { note }) => {
    const quick = options.has("quick");
    const devices = options.whole("devices", { from: 4, to: 5000 }) ?? (quick ? 20 : DEVICES);
    const rate = options.number("churn", { from: 0, to: 1 }) ?? CHURN;
    const minutes = options.whole("minutes", { from: 1, to: 600 }) ?? (quick ? 5 : MINUTES);
    const seed = options.whole("seed", { from: 0 }) ?? SEED;
    const of = (count: number) =>
      worldOf({ devices: count, churn: rate, minutes, seed, rows: ROWS, microBatches: PER_DEVICE * count });
    const world = of(devices);
    note(`churn: planning for ${world.request.devices.length} devices`);
    const plan = makePlan(world.request);
    const telling = new Map<Plan, number>();
    const tellMsOf = (own: Plan, of: ChurnWorld = world): number => {
      const known = telling.get(own) ?? tellingMs(own, of);
      telling.set(own, known);
      return known;
    };
    const once = (one: ChurnWorld, assumed: Partial<Assumed>, fullEveryMs: number, first = plan): ChurnRun =>
      runInSpans(one, first, { ...ASSUMED, tellMs: tellMsOf(first, one), ...assumed }, fullEveryMs);
    note(`churn: ${minutes} minutes of ${percent(rate)} a minute`);
    const main = once(world, {}, (minutes * 60_000) / (FULL_PLANS + 1));
    note("churn: fine-tuning");
    const tuning = worldOf({
      ...{ devices, churn: rate, minutes, seed, ...TUNING },
      microBatches: PER_DEVICE * devices,
    });
    const tunedBy = makePlan(tuning.request);
    const tuned = once(tuning, {}, Number.POSITIVE_INFINITY, tunedBy);
    const short = Math.max(LEAST_MINUTES, Math.round(minutes / SHORTER));
    const variant = (name: string, changed: number, assumed: Partial<Assumed> = {}): Named => {
      note(`churn: ${name}`);
      const run = once(
        withChurn(world, { churn: changed, minutes: short }),
        assumed,
        Number.POSITIVE_INFINITY,
      );
      return { name, run };
    };
    const rows = [
      ...CHURNS.map((each) => variant(`${percent(each)} a minute`, each)),
      variant(`${percent(rate)}, half of them silent`, rate, { silent: 0.5 }),
    ];
    const smaller = FEWER.filter((count) => count < devices).map((count) => {
      const fewer = of(count);
      return { world: fewer, first: makePlan(fewer.request) };
    });
    const compared = [...smaller, { world, first: plan }].map(({ world: own, first }) => {
      note(`churn: ${own.devices} devices by other rules`);
      // The first minutes of many say as much as all.
      const part = own.devices < devices ? own : withChurn(own, { minutes: short });
      const runs = OTHERS.map(({ rules }) => once(part, { rules }, Number.POSITIVE_INFINITY, first));
      return { devices: own.devices, stepMs: first.predictedStepMs, runs };
    });
    note("churn: runs in which everybody stops");
    const stopped = [...smaller, { world, first: plan }].map(({ world: own, first }) => {
      return { devices: own.devices, run: runWhole(own, first, { ...ASSUMED, tellMs: tellMsOf(first) }) };
    });
    const line = of(FEWER[0]!);
    const { request } = line;
    const chain = makePlan({ ...request, options: { ...request.options, strategy: "pipeline" } });
    const seldom = EVERY.map((every) => ({
      every,
      run: runWhole(line, chain, { ...ASSUMED, tellMs: 0 }, every),
    }));
    const figures = {
      ...{ devices, churn: rate, minutes, seed, goodput: goodput(main), main },
      finetuning: { goodput: goodput(tuned), ...tuned },
      variants: rows.map(({ name, run }) => ({ name, goodput: goodput(run), ...run })),
      ...{ compared: compared.map(({ runs, ...rest }) => ({ ...rest, goodput: runs.map(goodput) })) },
      ...{ stopped, seldom },
    };
    return {
      report: {
        title: "Churn",
        sections: [
          mainSection(world, plan, main, tellMsOf(plan)),
          tuningSection(tuning, tunedBy, tuned, tellMsOf(tunedBy, tuning)),
          rulesSection(compared, rate),
          variantSection(rows, short),
          stoppedSection(stopped, seldom, chain, rate),
        ],
        figures,
      },
      versions: [],
    };
  },
};

function mainSection(world: ChurnWorld, plan: Plan, run: ChurnRun, tellMs: number): Section {
  const { rows, microBatches, devices, churn: rate, minutes, seed } = world;
  const workers = workersOf(plan);
  const used = new Set(workers.map(({ member }) => member.device)).size;
  const stages = plan.stages.map(({ members }) => members.length).join(", ");
  const { layers, width, context } = MODEL;
  return {
    title: "Devices that come and go, simulated",
    text: [
      `${world.request.devices.length} imagined devices of ${CLASSES.length} classes (${CLASSES.join(", ")}), of which ${devices} ` +
        `are there on average, on links of ${LINK.mbitPerS} Mbit/s and ${LINK.latencyMs} ms; ${percent(rate)} of those that are there ` +
        `leave or join in a minute, as many the one as the other (Poisson, seed ${seed}), for ${minutes} minutes. They train ` +
        `a GPT of ${layers} layers, width ${width}, context ${context}, ${microBatches} micro-batches of ${rows} sequence${rows === 1 ? "" : "s"} in ` +
        `a step: ${plan.stages.length} stages of ${stages} members who share micro-batches, ${used} devices in use, ` +
        `${seconds(plan.predictedStepMs)} a step with all of them.`,
      "Goodput is the steps that were committed, over those of an undisturbed run that has the devices that are there, at once " +
        "and for nothing, by the best plan that is known for them (looked for at every fourth step, and among up to 64 devices at every one, " +
        "as runs look for their plans). The step that is under way at the end counts. Real in it: the planner and its adapted " +
        "plans, the simulator, where copies go, the ledger's rule of what is lost, the decision to go over to another plan.",
      "What is done again goes by the runtime's rules, and what is left of a step is simulated with every loss, operation by operation, by " +
        "the runtime's own dealing and programs: a lost device's micro-batches are dealt to all others of its stage, each to whom it will " +
        "be done with first from then on, who do them among all else; each goes on behind the kernel that runs as soon as it knows, and the stage adds " +
        "up its gradients behind that. Whoever is lost when its stage has added up is not missed. " +
        `Where there are fewer than ${LEAST_OTHERS} others, one of them starts that device's part of it ` +
        `${seconds(ASSUMED.startMs)} after the loss is known, and behind that the gradients of that stage are added up. Between two ` +
        "steps micro-batches are dealt anew for two round trips. A device that comes is measured for " +
        `${seconds(ASSUMED.profileMs)}; where there is time for that in the step that is under way, a plan with it is made in this one and ` +
        `it compiles (${seconds(ASSUMED.planMs + ASSUMED.startMs)}), or else in the next; in the one behind it is given what its stage ` +
        "holds and has nothing to do, and from then on it has work, while others are given theirs. That a loss is known takes " +
        `${ASSUMED.closedMs} ms.`,
    ],
    table: tableOf(run, tellMs),
  };
}

/** Its sums are short, and what is given to those who come is little. */
function tuningSection(
  { rows, microBatches }: ChurnWorld,
  plan: Plan,
  run: ChurnRun,
  tellMs: number,
): Section {
  const stages = plan.stages.map(({ members }) => members.length).join(", ");
  return {
    title: "Fine-tuned",
    text: [
      `The same devices come and go, and train adapters of rank ${TUNING.adapters} (LoRA) beside all matrices of the same model, which is ` +
        `frozen: ${microBatches} micro-batches of ${rows} sequence in a step, ${plan.stages.length} stages of ${stages} members, ` +
        `${seconds(plan.predictedStepMs)} a step with all of them. What members add up is a hundredth of what it is where all is trained: ` +
        "there, it takes seconds, and whoever is lost meanwhile has it begun anew.",
    ],
    table: tableOf(run, tellMs),
  };
}

function tableOf(run: ChurnRun, tellMs: number): Section["table"] {
  const share = (ms: number) => percent(ms / run.totalMs);
  return {
    columns: ["", "value"],
    rows: [
      ["goodput", percent(goodput(run))],
      ["steps committed", whole(run.steps)],
      ["steps of the undisturbed run", run.idealSteps.toFixed(1)],
      ["devices there, on average", whole(run.lives)],
      ["left / joined", `${run.leaves} / ${run.joins}`],
      ["losses of devices at work", whole(run.hits)],
      ["time: noticing losses", share(run.detectMs)],
      ["time: coming to rest, doing again what was lost, adding up again", share(run.replayMs)],
      ["time: between steps, moves to other plans", share(run.moveMs)],
      ["time: longer steps (devices that wait to be used, plans that are not the best)", share(run.unevenMs)],
      ["plans gone over to", whole(run.moves)],
      ["a device waits until it is used", seconds(run.waitedMs)],
      ["given to those who came", `${(run.joinedBytes / 1e9).toFixed(1)} GB`],
      ["given as copies", `${(run.copiedBytes / 1e9).toFixed(1)} GB`],
      ["losses that left no copy", whole(run.bereft)],
      ["a decision takes, here", seconds(run.decisionMs)],
      ["what a coordinator does of a loss until all are told takes, here, and in this", seconds(tellMs)],
    ],
  };
}

interface Compared {
  readonly devices: number;
  readonly stepMs: number;
  readonly runs: readonly ChurnRun[];
}

function rulesSection(compared: readonly Compared[], rate: number): Section {
  return {
    title: "What it would be by other rules",
    text: [
      `${percent(rate)} a minute. All come to rest: nobody goes on before all have, behind the kernels that they have asked for, and all ` +
        `stages add up again, also those that had done so. Given between steps: the run stands still for ${seconds(ASSUMED.startMs)} in which those who come ` +
        "compile, and until they have what their stage holds, where they gain what that costs. Done again by one: another member " +
        "of a lost device's stage starts its part of it, and does all of its micro-batches besides its own. Order kept: what is left of a " +
        "step is not put in the order of new programs for all, but whoever is dealt a lost device's micro-batches does them where that one " +
        "would have, by the times of the step as it was begun, and other stages go on as they do. And others first: besides, whoever waits " +
        "for one thing does one of the next two first whose input is there, which makes undisturbed steps shorter, too: goodput is of those.",
    ],
    table: {
      columns: ["devices", "a step", ...OTHERS.map(({ name }) => name)],
      rows: compared.map(({ devices, stepMs, runs }) => [
        ...[whole(devices), seconds(stepMs)],
        ...runs.map((run) => percent(goodput(run))),
      ]),
    },
  };
}

function variantSection(rows: readonly Named[], minutes: number): Section {
  return {
    title: "More churn, and less",
    text: [
      `By the runtime's rules, for ${minutes} minutes each. Silent: half of those that leave are noticed after the default patience of ` +
        `${seconds(DEFAULT_PATIENCE_MS)} only.`,
    ],
    table: {
      columns: ["", "goodput", "losses at work", "noticing", "again", "longer steps"],
      rows: rows.map(({ name, run }) => [
        ...[name, percent(goodput(run)), whole(run.hits)],
        ...[run.detectMs, run.replayMs, run.unevenMs].map((ms) => percent(ms / run.totalMs)),
      ]),
    },
  };
}

type Stopped = ReturnType<typeof runWhole>;

function stoppedSection(
  stopped: readonly { readonly devices: number; readonly run: Stopped }[],
  seldom: readonly { readonly every: number; readonly run: Stopped }[],
  chain: Plan,
  rate: number,
): Section {
  const cells = ({ goodput: part, stepMs, hits }: Stopped) => [percent(part), seconds(stepMs), whole(hits)];
  return {
    title: "Where every loss stops everybody",
    text: [
      "What the runtime does where members share tensors or sequences: the step that is under way is given up and repeated, " +
        `${seconds(ASSUMED.startMs)} after the loss is known. ${percent(rate)} a minute; steps are as long as with all devices. ` +
        `Below, a pipeline of ${chain.stages.length} stages of one device each whose copies are made every k steps.`,
    ],
    table: {
      columns: ["devices", "goodput", "a step", "losses at work"],
      rows: [
        ...stopped.map(({ devices, run }) => [whole(devices), ...cells(run)]),
        ...seldom.map(({ every, run }) => [`pipeline, k = ${every}`, ...cells(run)]),
      ],
    },
  };
}
