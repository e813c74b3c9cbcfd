/**
 * Which rank has which units, from the shares that the ranks are to have. Devices are unequal, so shares need not be
 * equal (Ye et al., "Galaxy", 2024, who divide heads, columns and rows by what devices can do).
 */

import { GraphError } from "../onnx/graph.ts";
import type { Labels, Units } from "./units.ts";

/**
 * What each rank gets, in whole numbers of at least 1. What is left out goes by `weights`, else by `heads`, and where
 * both are, evenly; where that does not come out even, those with the largest remainders get one more (Hamilton's
 * method).
 */
export interface Shares {
  /** How much each rank can do, beside the others: any numbers above 0. */
  readonly weights?: readonly number[];
  /** Query heads of every attention, or in their proportion where an attention has another number of them. */
  readonly heads?: readonly number[];
  /** Columns of the first matrices of every feed-forward layer. */
  readonly columns?: readonly number[];
  /** Classes of a head that is cut by its vocabulary. */
  readonly vocabulary?: readonly number[];
  /** Rows of the residual stream, with tensor-sequence sharing. */
  readonly rows?: readonly number[];
  /** Tokens of every sequence, with sequence sharing; of many sequences in a row, in their proportion. */
  readonly tokens?: readonly number[];
}

/** Whole numbers that add up to `total`, as near as can be to `weights`, and at least 1 each. */
export function apportion(total: number, weights: readonly number[]): number[] {
  const sum = weights.reduce((a, b) => a + b, 0);
  const exact = weights.map((weight) => (total * weight) / sum);
  const result = exact.map((share) => Math.max(1, Math.floor(share)));
  const given = () => result.reduce((a, b) => a + b, 0);
  const byNeed = weights
    .map((_, i) => i)
    .sort((a, b) => exact[b]! - result[b]! - (exact[a]! - result[a]!) || a - b);
  for (let i = 0; given() < total; i++) result[byNeed[i % byNeed.length]!]!++;
  while (given() > total) {
    // Those who were rounded up to 1 have it from whoever has most above what is due.
    const over = result.map((share, i) => (share > 1 ? share - exact[i]! : Number.NEGATIVE_INFINITY));
    result[over.indexOf(Math.max(...over))]!--;
  }
  return result;
}

/** The kind of a family decides by which shares it goes. */
export type FamilyKind = "heads" | "columns" | "vocabulary" | "rows" | "tokens" | "ranks";

export interface Family {
  readonly kind: FamilyKind;
  /** The axis whose indices are counted: heads, or else the axis that the family began with. */
  readonly labels: Labels;
}

/** What a family is counted by. @param kind null where it is one of heads or columns. */
export function describeFamily(units: Units, family: number, kind: FamilyKind | null): Family {
  const axes = units.axes(family);
  if (kind) return { kind, labels: axes[0]!.labels };
  const heads = axes.filter((axis) => axis.heads).map(({ labels }) => labels);
  if (heads.length === 0) return { kind: "columns", labels: axes[0]!.labels };
  // Query heads are at least as many as those of keys and values.
  return { kind: "heads", labels: heads.reduce((a, b) => (b.ids.length > a.ids.length ? b : a)) };
}

/** Whether the units that a family is counted by are all there are in it, and enough for every rank. */
export function whyNot(units: Units, family: number, { kind, labels }: Family, ranks: number): string | null {
  const counted = new Set(units.of(labels));
  if (counted.size < ranks) {
    const what = kind === "heads" ? "groups of heads" : kind === "vocabulary" ? "classes" : kind;
    return `${counted.size} ${what} that can be apart are too few for ${ranks} ranks`;
  }
  const known = units.axes(family).every((axis) => units.of(axis.labels).every((unit) => counted.has(unit)));
  return known ? null : "what is cut with it does not divide in the same way";
}

/**
 * The rank of every unit of a family.
 * @param where for the message of the error: the node that the family begins at.
 * @throws GraphError for shares that do not add up, or that cut a unit in two.
 */
export function assign(
  units: Units,
  { kind, labels }: Family,
  ranks: number,
  shares: Shares,
  where: string,
): Map<number, number> {
  const length = labels.ids.length;
  const result = new Map<number, number>();
  const each = Array<number>(ranks).fill(1);
  const counted = kind === "tokens" ? undefined : kind === "ranks" ? each : shares[kind];
  const given = kind === "heads" ? headCounts(length, shares.heads) : counted;
  if (!given) {
    const order = units.of(labels);
    const tokens = kind === "tokens" && tokenCounts(order.length, shares.tokens, where);
    const counts = tokens || apportion(order.length, shares.weights ?? shares.heads ?? each);
    let at = 0;
    counts.forEach((count, rank) => {
      for (let i = 0; i < count; i++) result.set(order[at++]!, rank);
    });
    return result;
  }
  const total = given.reduce((a, b) => a + b, 0);
  if (total !== length) {
    throw new GraphError(`${where}: shares of [${given}] ${kind} make ${total}, there are ${length}`);
  }
  const rankOf = given.flatMap((count, rank) => Array<number>(count).fill(rank));
  labels.ids.forEach((id, i) => {
    const unit = units.unit(id);
    const [before, rank] = [result.get(unit), rankOf[i]!];
    if (before !== undefined && before !== rank) {
      const group = Math.round(length / units.count(labels));
      throw new GraphError(
        `${where}: shares of [${given}] ${kind} part ${kind} that belong together; they go in groups of ${group}` +
          (kind === "heads" ? ", as many as share a key and value head" : ""),
      );
    }
    result.set(unit, rank);
  });
  return result;
}

/** Shares in heads for an attention that may have another number of them, where they come out whole. */
function headCounts(length: number, heads: readonly number[] | undefined): readonly number[] | undefined {
  if (!heads) return undefined;
  const factor = length / heads.reduce((a, b) => a + b, 0);
  return heads.every((count) => Number.isInteger(count * factor))
    ? heads.map((count) => count * factor)
    : heads;
}

/** Shares in tokens, for tokens that may be there several times. */
function tokenCounts(
  units: number,
  tokens: readonly number[] | undefined,
  where: string,
): readonly number[] | undefined {
  const total = tokens?.reduce((a, b) => a + b, 0);
  if (!tokens || !total) return undefined;
  if (units % total === 0) return tokens.map((count) => (count * units) / total);
  throw new GraphError(`${where}: shares of [${tokens}] tokens make ${total}, there are ${units}`);
}

/** @throws GraphError for shares that are not whole numbers of at least 1, one per rank; weights are above 0. */
export function checkShares(ranks: number, shares: Shares): void {
  if (!Number.isSafeInteger(ranks) || ranks < 2) {
    throw new GraphError(`${ranks} ranks: sharding takes a whole number of at least 2`);
  }
  const { weights, ...counts } = shares;
  if (weights && (weights.length !== ranks || !weights.every((weight) => weight > 0 && weight < Infinity))) {
    throw new GraphError(`weights of [${weights}]: numbers above 0 for ${ranks} ranks are wanted`);
  }
  for (const [kind, given] of Object.entries(counts) as [string, readonly number[] | undefined][]) {
    if (!given) continue;
    if (given.length !== ranks || given.some((count) => !Number.isSafeInteger(count) || count < 1)) {
      throw new GraphError(
        `shares of [${given}] ${kind}: whole numbers of at least 1 for ${ranks} ranks are wanted`,
      );
    }
  }
}
