/**
 * Lives simulated worlds: `bun test/sim/run.ts 17` lives that of seed 17 and prints what happened in it;
 * `bun test/sim/run.ts 1 500` lives five hundred and prints one line of JSON for each that broke a promise.
 */

import { live } from "./schedule.ts";
import { liveSeeds } from "./seeds.ts";

await liveSeeds((seed, verbose) => live(seed, { verbose }));
