/**
 * Contenders measured in turns: in each round every one of them does a little work, in an order that rotates, so
 * that what else the machine does meanwhile falls on all of them.
 */

import { median } from "./statistics.ts";

export interface Contender {
  readonly name: string;
  /** Milliseconds of so many pieces of work. */
  work(count: number): Promise<readonly number[]>;
}

/** By contender's name, one time of every round: the median of its work in that round. */
export type RoundTimes = ReadonlyMap<string, readonly number[]>;

export async function inTurns(
  contenders: readonly Contender[],
  rounds: number,
  count: number,
): Promise<RoundTimes> {
  const times = new Map(contenders.map(({ name }) => [name, [] as number[]]));
  for (let round = 0; round < rounds; round++) {
    for (let turn = 0; turn < contenders.length; turn++) {
      const { name, work } = contenders[(round + turn) % contenders.length]!;
      times.get(name)!.push(median(await work(count)));
    }
  }
  return times;
}
