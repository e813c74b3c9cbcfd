/**
 * Links between the devices of a run: which failures come from one that was lost, and who cannot reach whom although both
 * are there. Devices that do not reach each other cannot be neighbours in a plan.
 */

import type { Ref } from "../../runtime/index.ts";
import type { Device } from "../device.ts";
import type { LinkProfile, Profile } from "../scheduler/cost.ts";
import { chunksOf, type Plan } from "../scheduler/plan.ts";

/** Codes of failures that a lost link explains, or a device that leaves: its stages end before it is known to be gone. */
const OF_LINKS: ReadonlySet<unknown> = new Set([
  ...["NEIGHBOUR_LOST", "ABANDONED", "NODE_LOST", "ACTOR_DOWN", "CONNECT_FAILED", "LINK_SILENT"],
]);

/** Whether a failure may come from a link that was lost, between devices or to one of them. */
export function isLinkFailure(error: unknown): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const { code } = cause as { code?: unknown };
    if (OF_LINKS.has(code)) return true;
  }
  return false;
}

/**
 * What a link is measured as that there is none of, though both ends are there: a plan that uses it takes days for a step, so
 * none does where there is another.
 */
export const UNREACHABLE: LinkProfile = { latencyMs: 1e9, bytesPerMs: 1e-3 };

/** Whether a link is one that there is. */
export function isThere(link: LinkProfile | undefined): boolean {
  return link !== undefined && link.latencyMs < UNREACHABLE.latencyMs;
}

/** Two devices, by id. */
export type Pair = readonly [from: string, to: string];

/** All pairs of devices that exchange tensors by a plan, each once: those of stages side by side, and of one stage. */
export function neighboursOf(plan: Plan): readonly Pair[] {
  const pairs = new Map<string, Pair>();
  const add = (a: string, b: string) => {
    const pair: Pair = a < b ? [a, b] : [b, a];
    if (a !== b) pairs.set(pair.join(" "), pair);
  };
  const membersAt = chunksOf(plan).map((range) => {
    const stage = plan.stages.find(({ ranges }) => ranges.includes(range))!;
    return stage.members.map(({ device }) => device);
  });
  membersAt.forEach((members, position) => {
    for (const a of members) {
      for (const b of [...members, ...(membersAt[position + 1] ?? [])]) add(a, b);
    }
  });
  return [...pairs.values()];
}

/** Those of some pairs that do not reach each other, although both may be there; each device asks the other. */
export async function cutPairs(pairs: readonly Pair[], device: (id: string) => Ref<Device>): Promise<Pair[]> {
  const reached = await Promise.all(
    pairs.map(([from, to]) =>
      device(from)
        .ask.reaches(device(to))
        .catch(() => true),
    ),
  );
  return pairs.filter((_, i) => !reached[i]);
}

/** Those pairs of some devices that were measured not to reach each other. */
export function unreachablePairs(ids: readonly string[], { links }: Pick<Profile, "links">): Pair[] {
  return ids.flatMap((from, i) =>
    ids.slice(i + 1).flatMap((to): Pair[] => {
      const measured = [links[from]?.[to], links[to]?.[from]].filter((link) => link !== undefined);
      return measured.every(isThere) ? [] : [[from, to]];
    }),
  );
}

/** One of those that are in the most of these pairs, the last of them. */
export function mostCut(pairs: readonly Pair[]): string | undefined {
  const counts = new Map<string, number>();
  for (const id of pairs.flat()) counts.set(id, (counts.get(id) ?? 0) + 1);
  return [...counts].toSorted(([a, m], [b, n]) => n - m || Number(b) - Number(a))[0]?.[0];
}
