/**
 * A script that outlives the testbed's process: it waits for the end of its standard input, which comes when that process
 * ends in whatever way, killed too, and takes down what belongs to it.
 */

import { cleanUp } from "./cleanup.ts";
import { giveBack, isAlive } from "./machine.ts";

const owner = Number(process.argv[2]);
for await (const _ of Bun.stdin.stream());
await cleanUp((pid) => pid === owner);
// Where the owner lives it does so itself, when it has seen that all is gone.
if (!isAlive(owner)) giveBack(owner);
