/**
 * When links are measured: in rounds of pairs of devices. Two pairs with a device in common would share its line, and
 * pairs within one machine share its cores, so neither are measured at the same time. Between n machines that takes n
 * rounds or so, and not n².
 */

/** Two devices, by their places. */
export type Pair = readonly [number, number];

/** All pairs of devices in rounds, those of one round without a device, or a machine within which both are, in common. */
export function linkRounds(devices: readonly { readonly host: string }[]): Pair[][] {
  const rounds: { readonly pairs: Pair[]; readonly taken: Set<string> }[] = [];
  for (const pair of tournament(devices.length)) {
    const [a, b] = pair.map((device) => devices[device]!.host);
    const needs = pair.map((device) => `device ${device}`);
    if (a === b) needs.push(`host ${a}`);
    let round = rounds.find(({ taken }) => needs.every((need) => !taken.has(need)));
    if (!round) {
      round = { pairs: [], taken: new Set() };
      rounds.push(round);
    }
    round.pairs.push(pair);
    for (const need of needs) round.taken.add(need);
  }
  return rounds.map(({ pairs }) => pairs);
}

/** All pairs of `count`, in the order of a round-robin tournament: those that come together have nobody in common. */
function* tournament(count: number): Generator<Pair> {
  const even = count + (count % 2);
  for (let round = 0; round < even - 1; round++) {
    for (let i = 0; i < even / 2; i++) {
      // The last stays in its place, the others go round.
      const a = i === 0 ? even - 1 : (round + i) % (even - 1);
      const b = (round - i + even - 1) % (even - 1);
      if (a < count && b < count && a !== b) yield a < b ? [a, b] : [b, a];
    }
  }
}
