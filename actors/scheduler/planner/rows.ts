/**
 * The rows in which devices are put for the search, which makes stages of neighbours. Every order of a few devices; of
 * many those by speed, by memory and by links. Devices that are alike change places for nothing, so such rows count once.
 *
 * Where there are too many devices or segments, neighbours in the row are taken together, and places to cut are thinned
 * out to such as part the work evenly; what that loses, `refine.ts` looks for afterwards.
 */

import type { SegmentCost } from "../cost.ts";
import type { Tables } from "./tables.ts";

/** Of so many devices every order is tried. */
const ALL_ORDERS = 4;

const MANY = 40;

/** Rows of device places. `whole[d]` is the time of the whole model on each. */
export function rowsOf(tables: Tables, whole: readonly number[]): number[][] {
  const { devices } = tables;
  const given = devices.map((_, i) => i);
  const memory = (i: number) => devices[i]!.memoryBytes ?? Number.POSITIVE_INFINITY;
  const rows = [given];
  if (given.length <= ALL_ORDERS) rows.push(...permutations(given));
  else {
    const bySpeed = [...given].sort((a, b) => whole[a]! - whole[b]! || a - b);
    rows.push(bySpeed, [...bySpeed].reverse());
    // Of very many, a few may be enough, and those can be looked at one by one.
    if (bySpeed.length > MANY) rows.push(bySpeed.slice(0, MANY / 2));
    // The first stages keep most in flight, so the most memory goes there.
    const byMemory = [...given].sort(
      (a, b) => compare(memory(b), memory(a)) || whole[a]! - whole[b]! || a - b,
    );
    rows.push(byMemory);
    if (given.length <= MOST_CHAINED) rows.push(chain(tables, bySpeed));
  }
  const kinds = kindsOf(tables, whole);
  const known = new Set<string>();
  return rows.filter((row) => {
    const key = row.map((i) => kinds[i]).join(" ");
    if (known.has(key)) return false;
    known.add(key);
    return true;
  });
}

function compare(a: number, b: number): number {
  return a === b ? 0 : a - b;
}

function permutations(items: readonly number[]): number[][] {
  if (items.length <= 1) return [[...items]];
  return items.flatMap((item) =>
    permutations(items.filter((other) => other !== item)).map((rest) => [item, ...rest]),
  );
}

/** A chain takes the square of the number of devices. */
const MOST_CHAINED = 128;

/** From the fastest device always to the one with the widest link. */
function chain(tables: Tables, bySpeed: readonly number[]): number[] {
  const left = new Set(bySpeed);
  const row: number[] = [];
  for (let at: number | undefined = bySpeed[0]; at !== undefined; ) {
    row.push(at);
    left.delete(at);
    let next: number | undefined;
    let widest = 0;
    for (const other of left) {
      const { bytesPerMs } = tables.link(at, other);
      if (bytesPerMs > widest * (1 + 1e-9)) [next, widest] = [other, bytesPerMs];
    }
    at = next;
  }
  return row;
}

/** A name for each device that it shares with those that are like it in everything, links included. */
export function kindsOf(tables: Tables, whole: readonly number[]): readonly string[] {
  const { devices } = tables;
  if (devices.length > MOST_CHAINED) return devices.map(({ memoryBytes }, i) => `${whole[i]} ${memoryBytes}`);
  return devices.map((device, i) => {
    const links = devices.flatMap((_, j) => {
      if (i === j) return [];
      const { latencyMs, bytesPerMs } = tables.link(i, j);
      return [`${latencyMs} ${bytesPerMs}`];
    });
    // Where links differ, it depends on to whom: such devices are alike to nobody.
    const even = new Set(links).size <= 1;
    return JSON.stringify([tables.timesKey(i), device.memoryBytes, device.power, even ? links[0] : i]);
  });
}

/** Neighbours taken together, so that there are at most so many. */
export function blocksOf(row: readonly number[], most: number): number[][] {
  const blocks: number[][] = [];
  for (let i = 0; i < Math.min(most, row.length); i++) {
    const from = Math.floor((i * row.length) / Math.min(most, row.length));
    const to = Math.floor(((i + 1) * row.length) / Math.min(most, row.length));
    blocks.push(row.slice(from, to));
  }
  return blocks;
}

/** At most so many places to cut, the ends included, with about the same work between them. */
export function cutsOf(segments: readonly SegmentCost[], work: readonly number[], most: number): number[] {
  const count = segments.length;
  if (count + 1 <= most) return Array.from({ length: count + 1 }, (_, i) => i);
  const total = work.reduce((a, b) => a + b, 0);
  const cuts = [0];
  let done = 0;
  for (let i = 1; i < count; i++) {
    done += work[i - 1]!;
    const due = (total * cuts.length) / (most - 1);
    const here = Math.abs(done - due) <= Math.abs(done + work[i]! - due);
    if (here && cuts.length < most - 1) cuts.push(i);
  }
  return [...cuts, count];
}
