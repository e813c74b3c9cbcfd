/**
 * Three device processes on this machine, connected by TCP, against one, and against the ideal that the schedule and
 * the measured kernel times allow on as many cores as there are.
 */

import { join } from "node:path";
import { workersOf } from "../../actors/scheduler/plan.ts";
import { simulate } from "../../actors/scheduler/simulate.ts";
import { machine } from "../../runtime/platform/machine.ts";
import { Deployment, type MeasuredStep } from "../deployment.ts";
import { milliseconds, percent, times as timesOf, whole } from "../format.ts";
import { idealOfEach, measuredCost, shareOnCore } from "../ideal.ts";
import { busiestMs, threadTimes } from "../processes.ts";
import type { Section } from "../report.ts";
import { inTurns, type RoundTimes } from "../rounds.ts";
import { median, speedRatio } from "../statistics.ts";
import { tokensOf, trainArguments } from "../workload.ts";
import { Opened, type Part, type PartContext, type PartResult } from "./parts.ts";

const DEVICES = 3;
const SINGLE = "one device";
const SCHEDULES = ["1f1b", "gpipe"] as const;
const WARM_UP = 2;

export const pipeline: Part = async (context) => {
  const { workload, rounds, steps, note } = context;
  const opened = new Opened();
  try {
    note(`${DEVICES} devices: starting`);
    const runs = new Map<string, Run>();
    const open = async (name: string, args: readonly string[]) => {
      const out = join(context.folder, `pipeline-${runs.size}`);
      const all = [...trainArguments(workload), ...args, "--out", out];
      runs.set(name, new Run(opened.add(await Deployment.open(all))));
    };
    await open(SINGLE, ["--strategy", "single"]);
    for (const schedule of SCHEDULES) {
      await open(schedule, ["--devices", `${DEVICES}`, "--strategy", "pipeline", "--schedule", schedule]);
    }
    for (const run of runs.values()) await run.deployment.steps(WARM_UP);
    note(`${DEVICES} devices: ${rounds} rounds of ${steps} steps, ${runs.size} contenders`);
    const contenders = [...runs].map(([name, run]) => ({ name, work: (count: number) => run.work(count) }));
    const times = await inTurns(contenders, rounds, steps);
    return result(context, runs, times);
  } finally {
    await opened.close();
  }
};

function result(context: PartContext, runs: ReadonlyMap<string, Run>, times: RoundTimes): PartResult {
  const { workload, rounds, steps } = context;
  const tokens = tokensOf(workload);
  const single = times.get(SINGLE)!;
  const { cores } = machine();
  const figures = SCHEDULES.map((schedule) => {
    const run = runs.get(schedule)!;
    const stepMs = median(times.get(schedule)!);
    const own = idealOfEach(run.deployment.programs, run.steps);
    const sharedMs = run.idealOnCores(cores);
    return {
      schedule,
      stepMs,
      tokensPerSecond: (tokens / stepMs) * 1000,
      overOneDevice: speedRatio(times.get(schedule)!, single),
      criticalPathMs: own.ideal,
      criticalPathLoss: own.loss,
      quietIdealMs: sharedMs,
      quietLoss: sharedMs === null ? null : 1 - sharedMs / stepMs,
      stages: run.stages(),
      rounds: times.get(schedule)!,
    };
  });
  const oneMs = median(single);
  const sections: Section[] = [
    {
      title: `${DEVICES} devices on this machine, over TCP`,
      text: [
        `${DEVICES} device processes share ${cores} cores; medians of ${rounds} rounds of ${steps} steps, taking turns.`,
        "Two ideals, in which messages take no time. Critical path: every kernel of each step as long as it was, " +
          "taking turns on the cores included; the loss is the median over the steps. Quiet machine: the schedule " +
          `simulated with mean kernel times on a core and ${cores} cores shared out; on a machine that others use ` +
          "too, what they took counts as lost.",
      ],
      table: {
        columns: [
          "",
          "step",
          "tokens/s",
          "over one device",
          "critical path",
          "loss",
          "quiet machine",
          "loss",
        ],
        rows: [
          [SINGLE, milliseconds(oneMs), whole((tokens / oneMs) * 1000), "–", "–", "–", "–", "–"],
          ...figures.map((figure) => [
            figure.schedule,
            milliseconds(figure.stepMs),
            whole(figure.tokensPerSecond),
            timesOf(figure.overOneDevice),
            milliseconds(figure.criticalPathMs),
            percent(figure.criticalPathLoss),
            figure.quietIdealMs === null ? "–" : milliseconds(figure.quietIdealMs),
            figure.quietLoss === null ? "–" : percent(figure.quietLoss),
          ]),
        ],
      },
    },
    {
      title: `Stages of the ${DEVICES} devices`,
      text: ["Means: forward and backward of kernels per micro-batch, the rest per step."],
      table: {
        columns: [
          "schedule, stage",
          "segments",
          "forward",
          "backward",
          "kernels",
          "copies",
          "waiting",
          "on a core",
        ],
        rows: figures.flatMap(({ schedule, stages }) =>
          stages.map((stage) => [
            `${schedule}, ${stage.device}`,
            `${stage.from}–${stage.to - 1}`,
            milliseconds(stage.forwardMs),
            milliseconds(stage.backwardMs),
            milliseconds(stage.kernelMs),
            milliseconds(stage.copyMs),
            milliseconds(stage.waitMs),
            stage.onCore === null ? "–" : percent(stage.onCore),
          ]),
        ),
      },
    },
  ];
  return { sections, figures: { pipeline: { oneDeviceMs: oneMs, cores, schedules: figures } } };
}

/** A deployment, and all that its steps told. */
class Run {
  readonly deployment: Deployment;
  readonly steps: MeasuredStep[] = [];
  /** By stage: how long the thread of the kernels was on a core in these steps; null where nobody tells. */
  private readonly runMs: (number | null)[];

  constructor(deployment: Deployment) {
    this.deployment = deployment;
    this.runMs = deployment.pids.map(() => 0);
  }

  async work(count: number): Promise<readonly number[]> {
    const { pids } = this.deployment;
    const before = pids.map(threadTimes);
    const steps = await this.deployment.steps(count);
    pids.forEach((pid, stage) => {
      const [was, is, sum] = [before[stage], threadTimes(pid), this.runMs[stage]];
      this.runMs[stage] = was && is && typeof sum === "number" ? sum + busiestMs(was, is) : null;
    });
    this.steps.push(...steps);
    return steps.map(({ ms }) => ms);
  }

  /** The share of its kernels' time in which a stage was on a core. */
  onCore(stage: number): number | null {
    const runMs = this.runMs[stage] ?? null;
    const spans = this.steps.flatMap(({ reports }) => reports[stage]!.spans);
    return runMs === null ? null : shareOnCore(spans, runMs);
  }

  /** The step that its kernels' time on a core would allow on so many cores; null where nobody tells of that. */
  idealOnCores(cores: number): number | null {
    const { programs } = this.deployment;
    const shares = programs.map((_, stage) => this.onCore(stage));
    const known = shares.filter((share) => share !== null);
    if (known.length < shares.length) return null;
    const reports = this.steps.map((step) => step.reports);
    return simulate(programs, { ...measuredCost(reports, known), cores }).makespanMs;
  }

  /** By stage, for readers. */
  stages() {
    const { chunks } = measuredCost(this.steps.map(({ reports }) => reports));
    return workersOf(this.deployment.plan).map(({ member, stage: { ranges } }, stage) => {
      const mean = (key: "kernelMs" | "copyMs" | "waitMs" | "totalMs") =>
        this.steps.reduce((sum, { reports }) => sum + reports[stage]![key], 0) / this.steps.length;
      const { forwardMs, backwardMs } = chunks[stage]![0]!;
      return {
        device: member.deviceName,
        ...ranges[0]!,
        forwardMs,
        backwardMs,
        kernelMs: mean("kernelMs"),
        copyMs: mean("copyMs"),
        waitMs: mean("waitMs"),
        totalMs: mean("totalMs"),
        onCore: this.onCore(stage),
      };
    });
  }
}
