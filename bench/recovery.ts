/**
 * `bench recovery`: a device is killed in the middle of a step. How long until that step is committed, beside running
 * again from a checkpoint and heavy rescheduling, and what being ready for it costs.
 */

import { DEFAULT_ADAMW } from "../nn/optim/adamw.ts";
import { megabytes, milliseconds, percent } from "./format.ts";
import type { Place } from "./recovery/cluster.ts";
import {
  CHECKPOINT_EVERY,
  type ContenderName,
  costOfCopies,
  type Resumed,
  resume,
} from "./recovery/contenders.ts";
import { detection } from "./recovery/detection.ts";
import { median } from "./statistics.ts";
import { bedOf, SCENARIOS } from "./strategies/scenarios.ts";
import { SCENARIO_MODELS } from "./strategies/scenarios-models.ts";
import type { Suite } from "./suite.ts";
import { missingForNamespaces } from "./testbed/probe.ts";

const ROUNDS = 3;
const SEED = 1;
/** Only the learning rate depends on it. */
const STEPS = 1000;
const TIMED_STEPS = 12;
const CONTENDERS: readonly ContenderName[] = ["troupe", "heavy", "restart"];
const TITLES: Readonly<Record<ContenderName, string>> = {
  troupe: "Troupe",
  heavy: "heavy rescheduling",
  restart: "restart from a checkpoint",
};

function places(): Place[] {
  const kind = missingForNamespaces() === null ? "namespaces" : "shaped";
  const scenario = (name: string): Place => {
    const found = SCENARIOS.find((each) => each.name === name)!;
    return { name, about: found.about, specs: bedOf(found), kind };
  };
  return [
    {
      ...{ name: "loopback", about: "four equal devices on this machine's loopback", kind: "shaped" },
      specs: [1, 2, 3, 4].map((i) => ({
        ...{ name: `device-${i}`, speed: 1, memoryBytes: 2 ** 30 },
        line: { megabits: 20_000, latencyMs: 0 },
      })),
    },
    scenario("pi-four"),
    scenario("jetsons-100"),
  ];
}

export const recovery: Suite = {
  name: "recovery",
  summary: "a device is killed: how soon a run goes on, beside a restart and heavy rescheduling",
  options: {
    rounds: {
      value: "N",
      help: `kills for each way to go on, of another device each time (default: ${ROUNDS})`,
    },
    place: { value: "name", help: "loopback, pi-four or jetsons-100 alone", repeated: true },
  },
  run: async (options, { note }) => {
    const rounds = options.whole("rounds", { from: 1, to: 100 }) ?? ROUNDS;
    const asked = options.all("place");
    const chosen = places().filter(({ name }) => asked.length === 0 || asked.includes(name));
    const model = SCENARIO_MODELS.gpt;
    const training = {
      ...(await model.open(SEED)),
      ...{ optimizer: { ...DEFAULT_ADAMW, steps: STEPS }, seed: SEED, microBatches: model.microBatches },
    };
    const results: { place: string; contender: ContenderName; kills: Resumed[] }[] = [];
    const costs: ({ place: string } & Awaited<ReturnType<typeof costOfCopies>>)[] = [];
    const detected: ({ place: string } & Awaited<ReturnType<typeof detection>>)[] = [];
    for (const place of chosen) {
      const kills = new Map(CONTENDERS.map((name): [ContenderName, Resumed[]] => [name, []]));
      for (let round = 0; round < rounds; round++) {
        for (const contender of CONTENDERS) {
          note(`${place.name}: ${TITLES[contender]}`);
          kills.get(contender)!.push(await resume(contender, place, training, round));
        }
      }
      for (const [contender, own] of kills) results.push({ place: place.name, contender, kills: own });
      note(`${place.name}: cost of copies`);
      costs.push({ place: place.name, ...(await costOfCopies(place, training, TIMED_STEPS)) });
      note(`${place.name}: how soon losses are known`);
      detected.push({ place: place.name, ...(await detection(place)) });
    }
    const of = (kills: readonly Resumed[], value: (kill: Resumed) => number) => median(kills.map(value));
    const own = (place: string) =>
      results.find((each) => each.place === place && each.contender === "troupe")!.kills;
    return {
      report: {
        title: "Recovery",
        sections: [
          {
            title: "From SIGKILL to the commit of the step it fell into",
            text: [
              `${model.about}; a device is killed in the middle of a step, ${rounds} times, another one each time; medians. ` +
                "Detection is until the loss is known. A restart goes back to a checkpoint that is " +
                `${CHECKPOINT_EVERY / 2} steps old (one every ${CHECKPOINT_EVERY}). Recovery alone is from then until the ` +
                "devices that are left hold all that they go on with, a step what they make one in behind it. The last two " +
                "columns compare the whole and recovery alone with Troupe's.",
              ...chosen.map(({ name, about, kind }) => `${name}: ${about} (${kind}).`),
            ],
            table: {
              columns: [
                "",
                "",
                "resumed in",
                "in steps",
                "detected in",
                "recovery alone",
                "a step",
                "steps repeated",
                "moved",
                "whole",
                "alone",
              ],
              rows: results.map(({ place, contender, kills }) => {
                const readyMs = (kill: Resumed) => kill.readyMs;
                const resumeMs = of(kills, (kill) => kill.resumeMs);
                const moved = kills.every(({ movedBytes }) => movedBytes !== null)
                  ? megabytes(of(kills, (kill) => kill.movedBytes!))
                  : "–";
                return [
                  ...[place, TITLES[contender], milliseconds(resumeMs)],
                  (resumeMs / of(kills, (kill) => kill.stepMs)).toFixed(1),
                  milliseconds(of(kills, (kill) => kill.detectMs)),
                  milliseconds(of(kills, readyMs)),
                  milliseconds(of(kills, (kill) => kill.stepAfterMs)),
                  `${of(kills, (kill) => kill.stepsLost)}`,
                  moved,
                  `${(resumeMs / of(own(place), (kill) => kill.resumeMs)).toFixed(1)} ×`,
                  `${(of(kills, readyMs) / of(own(place), readyMs)).toFixed(1)} ×`,
                ];
              }),
            },
          },
          {
            title: "How soon a loss is known",
            text: [
              "By the coordinator, without anything under way: from SIGKILL, which closes a device's links, and from SIGSTOP, " +
                "behind which they stand and nothing comes; medians. Silence counts from the last sign of life, which is up to a tenth " +
                "of the patience before.",
            ],
            table: {
              columns: ["", "links close", "silent", "patience", "of each"],
              rows: detected.map(({ place, closedMs, silentMs, patienceMs, count }) => [
                ...[
                  place,
                  milliseconds(closedMs),
                  milliseconds(silentMs),
                  milliseconds(patienceMs),
                  `${count}`,
                ],
              ]),
            },
          },
          {
            title: "What copies cost",
            text: [
              `Medians of ${TIMED_STEPS} steps, twice in turns, with a copy of every stage in the memory of another device and ` +
                "without; a recovery point is begun when the one before is complete, and at most as often as the plan says. Copies " +
                "make way for what steps wait for, and are on their way for some steps; what is lost with a device are the steps since the " +
                "last point that is complete. Late: results of emulated kernels that came later than they were due, in a step, " +
                "where this machine was too busy.",
            ],
            table: {
              columns: [
                "",
                "step without",
                "step with",
                "cost",
                "points",
                "a point every",
                "bytes to others",
                "late",
              ],
              rows: costs.map(({ place, withoutMs, withMs, points, every, bytes, lateMs }) => [
                ...[place, milliseconds(withoutMs), milliseconds(withMs), percent(withMs / withoutMs - 1)],
                ...[`${points} in ${TIMED_STEPS + 1} steps`, every === 1 ? "step" : `${every} steps`],
                ...[megabytes(bytes), lateMs === null ? "–" : milliseconds(lateMs)],
              ]),
            },
          },
        ],
        figures: { results, costs, detected },
      },
      versions: [],
    };
  },
};
