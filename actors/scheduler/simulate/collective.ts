/**
 * What a collective takes, as `actors/collectives/` does it. Round a ring everybody sends to the next, in steps, each as
 * long as the slowest link needs (Patarasu and Yuan, "Bandwidth optimal all-reduce algorithms for clusters of
 * workstations", 2009): an all-reduce of b bytes among n takes 2(n-1) steps of b/n bytes, an all-gather and a
 * reduce-scatter half of that. Two who add up something short give each other all of it: as many bytes in one step.
 *
 * Many add up what is not very long in two trees (`collectives/tree-shape.ts`), half of it in each: up and down again, and
 * on every hop a piece of it has to have come before it goes on. A member sends to four others at most there, 2b bytes in
 * all, and as one interface is behind its links, one after the other.
 */

import type { Collective } from "../../../nn/shards/plan.ts";
import { SHORT, treePiece } from "../../collectives/pieces.ts";
import { addsUpInTrees, treeDepth, treesOf } from "../../collectives/tree-shape.ts";
import { type LinkProfile, transferMs } from "../cost.ts";

const ELEMENT_BYTES = 4;
const SHORT_BYTES = ELEMENT_BYTES * SHORT;

/** What members of a stage do together: a value of so many bytes, of which each has an equal part. */
export interface CollectiveWork {
  readonly op: Collective;
  readonly bytes: number;
  /** How many members there are. */
  readonly ranks: number;
  /** Whether it travels encoded, which goes round the ring. Not when left out. */
  readonly isEncoded?: boolean;
}

/** What a member sends another. */
export interface Sent {
  readonly from: number;
  readonly to: number;
  readonly bytes: number;
}

/** Whether it goes through trees, and not round a ring. */
export function isInTrees({ op, bytes, ranks, isEncoded = false }: CollectiveWork): boolean {
  return op === "all-reduce" && addsUpInTrees(bytes / ELEMENT_BYTES, ranks) && !isEncoded;
}

/** How many messages follow each other, each waiting for the one before. */
export function hopsOf(work: CollectiveWork): number {
  const { op, bytes, ranks } = work;
  if (op !== "all-reduce") return ranks - 1;
  if (isInTrees(work)) return 2 * treeDepth(ranks);
  return ranks === 2 && bytes <= SHORT_BYTES ? 1 : 2 * (ranks - 1);
}

/** Of what goes in pieces that wait on every hop, bytes of a piece; 0 round a ring, where the next step's wait for none. */
export function pieceBytes(work: CollectiveWork): number {
  if (!isInTrees(work)) return 0;
  const half = work.bytes / 2;
  return Math.min(half, ELEMENT_BYTES * treePiece(half / ELEMENT_BYTES));
}

/** What one member sends, to each of the others that it sends to; nothing alone. */
export function sentBy(work: CollectiveWork, rank: number): Sent[] {
  const sent: Sent[] = [];
  addSentBy(work, rank, isInTrees(work), sent);
  return sent;
}

/** What all members send. */
export function sentIn(work: CollectiveWork): Sent[] {
  const inTrees = isInTrees(work);
  const sent: Sent[] = [];
  for (let rank = 0; rank < work.ranks; rank++) addSentBy(work, rank, inTrees, sent);
  return sent;
}

function addSentBy(work: CollectiveWork, from: number, inTrees: boolean, sent: Sent[]): void {
  const { bytes, ranks } = work;
  if (ranks < 2) return;
  if (!inTrees) {
    sent.push({ from, to: (from + 1) % ranks, bytes: meanSent(work) });
    return;
  }
  for (const { parent, children } of treesOf(from, ranks)) {
    if (parent !== null) sent.push({ from, to: parent, bytes: bytes / 2 });
    for (const to of children) sent.push({ from, to, bytes: bytes / 2 });
  }
}

/** What a member sends on average: `collectiveBytes`, where all have equal parts. */
export function meanSent({ op, bytes, ranks }: CollectiveWork): number {
  const once = bytes * ((ranks - 1) / ranks);
  return op === "all-reduce" ? 2 * once : once;
}

/** What a member sends that sends the most. */
export function mostSent(work: CollectiveWork): number {
  return isInTrees(work) ? 2 * work.bytes : meanSent(work);
}

/** The narrowest of some links, and the longest way. */
export function slowestOf(links: Iterable<LinkProfile>): LinkProfile {
  let latencyMs = 0;
  let bytesPerMs = Number.POSITIVE_INFINITY;
  for (const link of links) {
    latencyMs = Math.max(latencyMs, link.latencyMs);
    bytesPerMs = Math.min(bytesPerMs, link.bytesPerMs);
  }
  return { latencyMs, bytesPerMs };
}

/** Its hops, but for what members have to send besides. @param link the slowest that it goes over. */
export function hopsMs(work: CollectiveWork, link: LinkProfile): number {
  return hopsOf(work) * (link.latencyMs + transferMs(pieceBytes(work), link));
}

/** @param link from one member to another, by rank. */
export function collectiveMs(work: CollectiveWork, link: (from: number, to: number) => LinkProfile): number {
  const sent = sentIn(work);
  if (sent.length === 0) return 0;
  const out = new Float64Array(work.ranks);
  const into = new Float64Array(work.ranks);
  const slowest = slowestOf(
    sent.map(({ from, to, bytes }) => {
      const own = link(from, to);
      out[from]! += transferMs(bytes, own);
      into[to]! += transferMs(bytes, own);
      return own;
    }),
  );
  return Math.max(...out, ...into) + hopsMs(work, slowest);
}

/** The same over links that are all alike. */
export function evenMs(work: CollectiveWork, link: LinkProfile): number {
  return work.ranks < 2 ? 0 : transferMs(mostSent(work), link) + hopsMs(work, link);
}
