/**
 * `bench runtime`: the actor runtime beside its rivals: other actor libraries and Erlang on one thread, raw sockets
 * between processes, raw messages between threads, the raw library of a data channel. Every contender is a process of
 * its own (bench/runtime/contender.ts); rounds of all of them alternate, so that what else the machine does falls on
 * each, and every round checks that its work was done.
 */

import type { Options } from "../cli/options.ts";
import { ChildError, LineChild } from "./child.ts";
import type { Section } from "./report.ts";
import { ARENAS, type Arena, type Case } from "./runtime/arenas.ts";
import { figure } from "./runtime/units.ts";
import { median } from "./statistics.ts";
import type { Suite, SuiteContext } from "./suite.ts";

const ROUNDS = 7;
/** Rounds that are thrown away: code is compiled, memory and windows grow. */
const WARM_UP = 4;

/** By case, the figure of each round: the median of the round. */
type Figures = Map<string, number[]>;

export const runtime: Suite = {
  name: "runtime",
  summary: "actors and transports beside other actor libraries, Erlang, raw sockets and raw messages",
  options: {
    rounds: { value: "N", help: `rounds of each contender (default: ${ROUNDS})` },
    quick: { help: "one round without warm-up, to see that it works; its figures say nothing" },
    only: { value: "name", help: `one part: ${ARENAS.map(({ name }) => name).join(", ")}` },
  },
  run: async (options, context) => {
    const rounds = options.has("quick") ? 1 : (options.whole("rounds", { from: 1 }) ?? ROUNDS);
    const warmUp = options.has("quick") ? 0 : WARM_UP;
    const sections: Section[] = [];
    const figures: Record<string, unknown> = {};
    const versions: string[] = [];
    for (const arena of chosen(options)) {
      const { section, medians } = await compete(arena, rounds, warmUp, context);
      sections.push(section);
      figures[arena.name] = medians;
      versions.push(...(arena.versions?.() ?? []));
    }
    return { report: { title: "The actor runtime and its transports", sections, figures }, versions };
  },
};

function chosen(options: Options): readonly Arena[] {
  const name = options.choice(
    "only",
    ARENAS.map((arena) => arena.name),
  );
  return name === undefined ? ARENAS : ARENAS.filter((arena) => arena.name === name);
}

async function compete(arena: Arena, rounds: number, warmUp: number, { note }: SuiteContext) {
  const children = new Map<string, LineChild>();
  const absent: string[] = [];
  const results = new Map<string, Figures>();
  try {
    for (const { name, prepare, command } of arena.contenders) {
      try {
        await prepare?.();
        children.set(name, await LineChild.start({ command }));
        results.set(name, new Map());
      } catch (error) {
        if (!(error instanceof ChildError)) throw error;
        absent.push(`${name} is not here: ${error.message}.`);
      }
    }
    const names = [...children.keys()];
    for (let round = -warmUp; round < rounds; round++) {
      note(`${arena.name}: round ${Math.max(0, round + 1)} of ${rounds}`);
      for (const { key } of arena.cases) {
        for (let turn = 0; turn < names.length; turn++) {
          const name = names[(turn + round + warmUp) % names.length]!;
          const child = children.get(name)!;
          if (!(JSON.parse(child.greeting) as string[]).includes(key)) continue;
          const values = JSON.parse(await child.ask(key)) as number[];
          if (round < 0) continue;
          const figures = results.get(name)!;
          figures.set(key, [...(figures.get(key) ?? []), median(values)]);
        }
      }
    }
  } finally {
    await Promise.all([...children.values()].map((child) => child.close()));
  }
  const section: Section = {
    title: arena.title,
    text: [arena.text, ...absent],
    table: {
      columns: ["what", "by", "median", "beside Troupe", "promise", "kept"],
      rows: rowsOf(arena, results),
    },
  };
  return { section, medians: mediansOf(results) };
}

function rowsOf({ cases, contenders }: Arena, results: ReadonlyMap<string, Figures>): (string | number)[][] {
  const ours = contenders[0]!.name;
  return cases.flatMap((one) =>
    contenders.flatMap(({ name }) => {
      const mine = results.get(name)?.get(one.key);
      const troupe = results.get(ours)?.get(one.key);
      if (!mine || !troupe) return [];
      if (name === ours) {
        return [
          [one.title, name, figure(one, median(mine)), "–", one.promise ?? "–", verdict(one, results, ours)],
        ];
      }
      return [[one.title, name, figure(one, median(mine)), ratio(mine, troupe).toFixed(2), "–", "–"]];
    }),
  );
}

/** How many times as long (or as large) the rival's is as ours, paired by round. */
function ratio(rival: readonly number[], ours: readonly number[]): number {
  return median(rival.map((value, round) => value / ours[round]!));
}

function verdict(one: Case, results: ReadonlyMap<string, Figures>, ours: string): string {
  if (!one.kept) return "–";
  const mine = results.get(ours)!.get(one.key)!;
  const beside = (name: string) => {
    const rival = results.get(name)?.get(one.key);
    return rival && ratio(rival, mine);
  };
  const kept = one.kept(median(mine), beside);
  return kept === undefined ? "–" : kept ? "yes" : "NO";
}

function mediansOf(results: ReadonlyMap<string, Figures>): Record<string, Record<string, number>> {
  const entries = [...results].map(([name, figures]) => [
    name,
    Object.fromEntries([...figures].map(([key, values]) => [key, median(values)])),
  ]);
  return Object.fromEntries(entries);
}
