/**
 * Lives simulated worlds: `bun test/sim/run.ts 17` lives that of seed 17 and prints what happened in it;
 * `bun test/sim/run.ts 1 500` lives five hundred and prints one line of JSON for each that broke a promise.
 */

import { live } from "./schedule.ts";

/** What a run over many seeds says about one. */
export interface Report {
  readonly seed: number;
  readonly breaches: readonly string[];
}

const [from = 1, to] = process.argv.slice(2).map(Number);

// An error nobody catches belongs to the world it happened in.
const stray: string[] = [];
process.on("unhandledRejection", (error) => stray.push(`unhandled: ${(error as Error).stack ?? error}`));
process.on("uncaughtException", (error) => stray.push(`uncaught: ${error.stack}`));

if (to === undefined) {
  const { lines, breaches, digest } = await live(from, { verbose: true });
  console.log([...lines, ...stray, ...breaches.map((b) => `BROKEN ${b}`), `trace ${digest}`].join("\n"));
  process.exitCode = breaches.length + stray.length > 0 ? 1 : 0;
} else {
  for (let seed = from; seed <= to; seed++) {
    // Whoever waits for this process knows where it stands, should a world never end.
    console.log(seed);
    const { breaches } = await live(seed);
    const all = [...breaches, ...stray.splice(0)];
    if (all.length > 0) console.log(JSON.stringify({ seed, breaches: all } satisfies Report));
  }
}
