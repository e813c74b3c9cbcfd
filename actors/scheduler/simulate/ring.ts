/**
 * What a collective takes when it goes round a ring: everybody sends to the next, in steps, each step as long as the
 * slowest link needs (Patarin and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of workstations", 2009). An
 * all-reduce of b bytes among n takes 2(n-1) steps of b/n bytes, an all-gather and a reduce-scatter half of that.
 */

import { type Collective, collectiveBytes } from "../../../nn/shards/plan.ts";
import { type LinkProfile, transferMs } from "../cost.ts";

/** @param links from each member to the next. */
export function ringMs(op: Collective, bytes: number, links: readonly LinkProfile[]): number {
  const ranks = links.length;
  if (ranks < 2) return 0;
  // Equal parts: every rank sends as much as the first.
  const sent = collectiveBytes(op, bytes, new Array<number>(ranks).fill(1), 0);
  const steps = (ranks - 1) * (op === "all-reduce" ? 2 : 1);
  let slowest = 0;
  let latency = 0;
  for (const link of links) {
    slowest = Math.max(slowest, transferMs(sent, link));
    latency = Math.max(latency, link.latencyMs);
  }
  return slowest + steps * latency;
}
