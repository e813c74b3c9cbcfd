/**
 * What a contender is to itself: a process of its own that is given the name of a case on a line and answers with
 * the figures of one round. It warms up by its first rounds, which the bench throws away.
 */

/** Each returns the figures of one round, lower is better: nanoseconds of an operation or a byte, or bytes. */
export type Cases = Readonly<Record<string, () => Promise<readonly number[]>>>;

/** Says which cases there are, then answers lines on standard input until it ends. @throws Error for an unknown case. */
export async function contend(cases: Cases): Promise<void> {
  process.stdout.write(`${JSON.stringify(Object.keys(cases))}\n`);
  for await (const line of console) {
    if (line.trim() === "") continue;
    const work = cases[line.trim()];
    if (!work) throw new Error(`there is no case "${line}"; there are ${Object.keys(cases).join(", ")}`);
    process.stdout.write(`${JSON.stringify(await work())}\n`);
  }
}

/** Nanoseconds of so many operations, each. */
export async function each(count: number, work: () => Promise<void>): Promise<number> {
  const begun = Bun.nanoseconds();
  await work();
  return (Bun.nanoseconds() - begun) / count;
}

/** Bytes of heap that `make` leaves behind, each; what it returns is kept until they have been counted. */
export async function heapBytes(count: number, make: () => Promise<unknown>): Promise<number> {
  const { heapStats } = await import("bun:jsc");
  Bun.gc(true);
  const before = heapStats();
  const kept = await make();
  Bun.gc(true);
  const after = heapStats();
  if (kept === undefined) throw new Error("nothing was kept");
  return (after.heapSize + after.extraMemorySize - before.heapSize - before.extraMemorySize) / count;
}
