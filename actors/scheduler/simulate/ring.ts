/**
 * What a collective takes when it goes round a ring: everybody sends to the next, in steps, each step as long as the
 * slowest link needs (Patarasu and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009). An
 * all-reduce of b bytes among n takes 2(n-1) steps of b/n bytes, an all-gather and a reduce-scatter half of that. Two who
 * add up something short give each other all of it: as many bytes in one step.
 */

import { type Collective, collectiveBytes } from "../../../nn/shards/plan.ts";
import { SHORT } from "../../collectives/pieces.ts";
import { type LinkProfile, transferMs } from "../cost.ts";

const SHORT_BYTES = 4 * SHORT;

/** How many messages of a collective follow each other, each waiting for the one before. */
export function ringSteps(op: Collective, bytes: number, ranks: number): number {
  if (op !== "all-reduce") return ranks - 1;
  return ranks === 2 && bytes <= SHORT_BYTES ? 1 : 2 * (ranks - 1);
}

/** What each member sends of a value of so many bytes, in equal parts. */
export function ringBytes(op: Collective, bytes: number, ranks: number): number {
  return collectiveBytes(op, bytes, new Array<number>(ranks).fill(1), 0);
}

/** @param links from each member to the next. */
export function ringMs(op: Collective, bytes: number, links: readonly LinkProfile[]): number {
  const ranks = links.length;
  if (ranks < 2) return 0;
  const sent = ringBytes(op, bytes, ranks);
  const steps = ringSteps(op, bytes, ranks);
  let slowest = 0;
  let latency = 0;
  for (const link of links) {
    slowest = Math.max(slowest, transferMs(sent, link));
    latency = Math.max(latency, link.latencyMs);
  }
  return slowest + steps * latency;
}
