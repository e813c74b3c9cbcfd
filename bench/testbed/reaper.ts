/**
 * A script that outlives the testbed's process: it waits for the end of its standard input, which comes when that process
 * ends in whatever way, killed too, and takes down what belongs to it.
 */

import { cleanUp } from "./cleanup.ts";

const owner = Number(process.argv[2]);
for await (const _ of Bun.stdin.stream());
await cleanUp((pid) => pid === owner);
