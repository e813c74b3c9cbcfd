/**
 * Three device processes on this machine, connected by TCP, against one, and against the ideal that the schedule and
 * the measured kernel times allow on as many cores as there are.
 */

import { join } from "node:path";
import { simulate } from "../../actors/scheduler/simulate.ts";
import { machine } from "../../runtime/platform/machine.ts";
import { Deployment, type MeasuredStep } from "../deployment.ts";
import { milliseconds, percent, times as timesOf, whole } from "../format.ts";
import { measuredCost, shareOnCore } from "../ideal.ts";
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
    const ideals = idealsOf(run, cores);
    return {
      schedule,
      stepMs,
      tokensPerSecond: (tokens / stepMs) * 1000,
      overOneDevice: speedRatio(times.get(schedule)!, single),
      ideals: ideals.map(({ name, ms }) => ({ name, ms, loss: 1 - ms / stepMs })),
      stages: run.stages(),
      rounds: times.get(schedule)!,
    };
  });
  const oneMs = median(single);
  const sections: Section[] = [
    {
      title: `${DEVICES} devices on this machine, over TCP`,
      text: [
        `${DEVICES} device processes share ${cores} cores; medians of ${rounds} rounds of ${steps} steps, taking turns. ` +
          "The ideal is the schedule simulated with the run's own median kernel times, messages that take no time and " +
          `${cores} cores: with kernel times scaled to what their thread was on a core, since the simulation shares ` +
          "out the cores itself; and for comparison with kernel times as they were.",
      ],
      table: {
        columns: [
          "",
          "step",
          "tokens/s",
          "over one device",
          "ideal",
          "loss",
          "ideal, times as they were",
          "loss",
        ],
        rows: [
          [SINGLE, milliseconds(oneMs), whole((tokens / oneMs) * 1000), "–", "–", "–", "–", "–"],
          ...figures.map(({ schedule, stepMs, tokensPerSecond, overOneDevice, ideals }) => [
            schedule,
            milliseconds(stepMs),
            whole(tokensPerSecond),
            timesOf(overOneDevice),
            ...[ON_CORE, AS_THEY_WERE].flatMap((name) => {
              const ideal = ideals.find((candidate) => candidate.name === name);
              return ideal ? [milliseconds(ideal.ms), percent(ideal.loss)] : ["–", "–"];
            }),
          ]),
        ],
      },
    },
    {
      title: `Stages of the ${DEVICES} devices`,
      text: ["Kernel times are medians per micro-batch; the rest are means per step."],
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

const ON_CORE = "kernel times on a core";
const AS_THEY_WERE = "kernel times as they were";

function idealsOf(run: Run, cores: number): { name: string; ms: number }[] {
  const { programs } = run.deployment;
  const steps = run.steps.map(({ reports }) => reports);
  const makespan = (onCore?: readonly number[]) =>
    simulate(programs, measuredCost(steps, cores, onCore)).makespanMs;
  const shares = programs.map((_, stage) => run.onCore(stage));
  const known = shares.filter((share) => share !== null);
  return [
    ...(known.length === shares.length ? [{ name: ON_CORE, ms: makespan(known) }] : []),
    { name: AS_THEY_WERE, ms: makespan() },
  ];
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

  /** By stage, for readers. */
  stages() {
    const { positions } = measuredCost(
      this.steps.map(({ reports }) => reports),
      1,
    );
    return this.deployment.plan.stages.map(({ deviceName, from, to }, stage) => {
      const mean = (key: "kernelMs" | "copyMs" | "waitMs" | "totalMs") =>
        this.steps.reduce((sum, { reports }) => sum + reports[stage]![key], 0) / this.steps.length;
      const { forwardMs, backwardMs } = positions[stage]!;
      return {
        device: deviceName,
        from,
        to,
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
