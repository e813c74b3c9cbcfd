/**
 * The two trees that many ranks add up in (Sanders, Speck and Träff, "Two-tree algorithms for full bandwidth broadcast,
 * reduction and scan", 2009). Both have all ranks, and whoever hands things on in one has nobody below it in the other: so
 * none sends all more than twice, and none is further from a root than the logarithm of their number.
 *
 * The first is a binary tree in order: of places counted from 1, the odd ones are leaves, and others are as many levels
 * above them as they can be halved. Where a place is behind the last one, whoever would be below it is below the place
 * before. The second is the first from its other end, or, of an odd number, moved on by one: what was even is odd there.
 */

/** Up to so many, a ring: there, hops are few. */
const MOST_IN_RING = 8;
/** Elements that a link has under way, 128 KiB: 1 Gbit/s for a millisecond. */
const UNDER_WAY = 2 ** 15;

/** Where a rank is in a tree. */
export interface TreePlace {
  /** Null at the root. */
  readonly parent: number | null;
  /** Two at most; who is in lower places first. */
  readonly children: readonly number[];
}

/**
 * Whether so many elements are added up in trees, rather than round a ring. That has 2(ranks - 1) hops, and each rank sends
 * 2/ranks of all less than whoever hands things on in a tree, so it is the better one for what is long: from where a chunk of
 * a rank takes a link as long as the hops that trees spare.
 */
export function addsUpInTrees(length: number, ranks: number): boolean {
  const spared = ranks - 1 - treeDepth(ranks);
  return ranks > MOST_IN_RING && length / ranks < spared * UNDER_WAY;
}

/** Hops from the leaf that is furthest from the root. */
export function treeDepth(ranks: number): number {
  return 31 - Math.clz32(ranks);
}

/** Ranks that one gives something in sums, or gets it from: round a ring, and in both trees. */
export function partnersOf(rank: number, ranks: number): readonly number[] {
  const partners = new Set([(rank + 1) % ranks, (rank + ranks - 1) % ranks]);
  if (ranks > MOST_IN_RING) {
    for (const { parent, children } of treesOf(rank, ranks)) {
      if (parent !== null) partners.add(parent);
      for (const child of children) partners.add(child);
    }
  }
  partners.delete(rank);
  return [...partners];
}

/** A rank in both trees. */
export function treesOf(rank: number, ranks: number): readonly [TreePlace, TreePlace] {
  const first = placeOf(rank + 1, ranks, (place) => place - 1);
  if (ranks % 2 === 0) return [first, placeOf(ranks - rank, ranks, (place) => ranks - place)];
  return [first, placeOf(rank || ranks, ranks, (place) => place % ranks)];
}

/** @param place from 1. */
function placeOf(place: number, ranks: number, rankAt: (place: number) => number): TreePlace {
  const level = place & -place;
  const before = place ^ level;
  const parent = before | (2 * level);
  const children: number[] = [];
  if (level > 1) {
    children.push(rankAt(place - level / 2));
    for (let below = level / 2; below >= 1; below /= 2) {
      if (place + below > ranks) continue;
      children.push(rankAt(place + below));
      break;
    }
  }
  if (parent <= ranks) return { parent: rankAt(parent), children };
  return { parent: before === 0 ? null : rankAt(before), children };
}
