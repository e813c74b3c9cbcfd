/**
 * `bench soak`: real processes over hours, with a fault every few seconds. Runs follow each other, each must end with the
 * weights of the one that was spared, and no process may grow or leave anything behind.
 */

import { milliseconds } from "./format.ts";
import { FAULT_KINDS } from "./soak/faults.ts";
import { growthOf, MEASURES, type Measure } from "./soak/readings.ts";
import { type LifeOf, Soak, type SoakResult } from "./soak/run.ts";
import { median, quantile } from "./statistics.ts";
import type { Suite } from "./suite.ts";

const MINUTES = 120;
const EVERY = 20;
const SEED = 7;
const STEPS = 200;

export const soak: Suite = {
  name: "soak",
  summary: "real processes with a fault every few seconds: exact weights, and nothing that grows or is left",
  options: {
    minutes: { value: "N", help: `how long (default: ${MINUTES})` },
    every: { value: "s", help: `seconds between faults (default: ${EVERY})` },
    kills: { value: "N", help: "end when so many processes were killed, the coordinator all along" },
    seed: { value: "S", help: `decides which faults come over whom (default: ${SEED})` },
    steps: { value: "N", help: `steps of each run (default: ${STEPS})` },
  },
  run: async (options, { folder, note }) => {
    const everySeconds = options.whole("every", { from: 1, to: 600 }) ?? EVERY;
    const result = await new Soak({
      ...{ folder, note, everySeconds },
      seconds: 60 * (options.number("minutes", { from: 0 }) ?? MINUTES),
      kills: options.whole("kills", { from: 1 }) ?? Number.POSITIVE_INFINITY,
      seed: options.whole("seed", { from: 0 }) ?? SEED,
      steps: options.whole("steps", { from: 10 }) ?? STEPS,
    }).run();
    const lives = longLived(result.lives).map((life) => ({ ...life, growth: growthsOf(life) }));
    const grown = lives.flatMap(({ name, growth }) =>
      MEASURES.filter((measure) => growth[measure] && !growth[measure].flat).map(
        (measure) => `${name}: ${measure}`,
      ),
    );
    const { runs, failures, given, kills, steps, recovered, resumed, unforeseen, left, seconds } = result;
    const exact = runs.filter((run) => run.exact).length;
    const failed = failures.length > 0 || grown.length > 0 || left.length > 0 || exact < runs.length;
    const counts = FAULT_KINDS.map((kind) => ({
      kind,
      count: given.filter((each) => each === kind).length,
    }));
    const verdict = [
      `${exact} of ${runs.length} runs exact`,
      `${failures.length} failures`,
      grown.length === 0 ? "nothing grew" : `grew: ${grown.join(", ")}`,
      left.length === 0 ? "nothing left behind" : `left behind: ${left.join(", ")}`,
    ].join("; ");
    return {
      failed,
      report: {
        title: "Soak",
        sections: [
          {
            title: `${(seconds / 60).toFixed(0)} minutes, a fault every ${everySeconds} s`,
            text: [
              `${verdict}. ${steps} steps in ${runs.length} runs; ${kills.device + kills.coordinator} processes were killed by ` +
                `SIGKILL, ${kills.coordinator} of them coordinators with the data source in them. ${unforeseen} devices were given up ` +
                "that nothing had been done to.",
              recoveries(result),
              // Where it was in the code is in the JSON.
              ...failures.map((failure) => failure.split("\n")[0]!),
            ],
            table: { columns: ["fault", "times"], rows: counts.map(({ kind, count }) => [kind, count]) },
          },
          {
            title: "Processes over their second half",
            text: [
              "Medians of the first and the last tenth of the second half of a process's life, and the growth by its slope (Theil " +
                "and Sen) in between. It is flat where that is no more than the figure goes up and down by (10th to 90th percentile " +
                "without the slope), or than 5 % of its median or 3 of what is counted.",
            ],
            table: {
              columns: ["process", "minutes", "", "first", "last", "growth", "allowed", "flat"],
              rows: lives.flatMap(({ name, readings, growth }) =>
                MEASURES.flatMap((measure) => {
                  const found = growth[measure];
                  if (!found) return [];
                  const show = (value: number) => figure(measure, value);
                  const minutes = ((readings.at(-1)!.seconds - readings[0]!.seconds) / 60).toFixed(0);
                  return [
                    [
                      ...[name, minutes, measure, show(found.first), show(found.last), show(found.growth)],
                      ...[show(found.allowed), found.flat ? "yes" : "NO"],
                    ],
                  ];
                }),
              ),
            },
          },
        ],
        figures: {
          ...{
            seconds,
            steps,
            kills,
            counts,
            unforeseen,
            runs,
            failures,
            left,
            grown,
            recovered,
            resumed,
          },
          processes: lives,
        },
      },
      versions: [],
    };
  },
};

/** Those that never died, and the coordinator that lived longest. */
function longLived(lives: readonly LifeOf[]): LifeOf[] {
  const best = new Map<string, LifeOf>();
  for (const life of lives) {
    if (life.readings.length > (best.get(life.name)?.readings.length ?? 0)) best.set(life.name, life);
  }
  return [...best.values()];
}

function growthsOf({ readings }: LifeOf) {
  return Object.fromEntries(MEASURES.map((measure) => [measure, growthOf(readings, measure)])) as Record<
    Measure,
    ReturnType<typeof growthOf>
  >;
}

function figure(measure: Measure, value: number): string {
  return measure === "resident" ? `${(value / 1e6).toFixed(1)} MB` : value.toFixed(1);
}

function recoveries({ recovered, resumed }: SoakResult): string {
  if (recovered.length === 0) return "No recoveries.";
  const ms = recovered.map(({ resume_ms }) => resume_ms as number);
  const lost = recovered.map(({ steps_lost }) => steps_lost as number);
  const restarts = [...recovered, ...resumed].filter(({ from_checkpoint }) => from_checkpoint).length;
  return (
    `${recovered.length} recoveries: the next step ${milliseconds(median(ms))} after a loss was known, by median, and ` +
    `${milliseconds(quantile(ms, 0.95))} for one in twenty; ${median(lost)} steps done again by median, ${Math.max(...lost)} at ` +
    `most. Other coordinators took over ${resumed.length} times. ${restarts} times copies were gone, and the run went back to a ` +
    "checkpoint."
  );
}
