/**
 * Many simulated worlds, each of a seed: the program that lives them (`liveSeeds`), and what starts several of it in
 * processes of their own and gathers what broke a promise (`brokenSeeds`). Worlds are dealt in pieces, so that processes
 * end together; one that never ends, or ends its process, is reported and costs no other.
 */

import { join } from "node:path";

/** What a world came to. */
export interface Lived {
  readonly breaches: readonly string[];
  /** What happened in it, if that was asked for. */
  readonly lines?: readonly string[] | undefined;
  readonly digest: string;
}

/** What is said of one that broke a promise. */
interface Report {
  readonly seed: number;
  readonly breaches: readonly string[];
}

/** Both ends are included. */
export interface SeedRange {
  readonly from: number;
  readonly to: number;
}

export interface SeedRun {
  /** What calls `liveSeeds`: a path from the root of the project, as whoever replays a seed writes it. */
  readonly program: string;
  readonly seeds: SeedRange;
  /** Real milliseconds after which a world is taken for one that never ends. */
  readonly patienceMs: number;
}

const ROOT = join(import.meta.dir, "../..");
const PROCESSES = Math.max(1, Math.min(8, navigator.hardwareConcurrency));
/** Of a process: what it learns is of use for so many, and what it may leak is of no account. */
const MOST_IN_PIECE = 1000;
const MOST_TOLD = 10;

/** `500` for the first so many, `2001-4000` for those; `share` of them where nothing is asked for. */
export function seedRange(asked: string | undefined, share: number): SeedRange {
  const [, from, to] = /^(?:(\d+)-)?(\d+)$/.exec(asked ?? `${share}`) ?? [];
  if (to === undefined) throw new RangeError(`${asked} are no seeds: 500 or 2001-4000 is expected`);
  return { from: Number(from ?? 1), to: Number(to) };
}

/**
 * Lives worlds as this program's arguments say: `17` lives that of seed 17 and prints what happened in it; `1 500` lives
 * five hundred and prints one line of JSON for each that broke a promise.
 */
export async function liveSeeds(live: (seed: number, verbose: boolean) => Promise<Lived>): Promise<void> {
  const [from = 1, to] = process.argv.slice(2).map(Number);
  // An error nobody catches belongs to the world it happened in.
  const stray: string[] = [];
  process.on("unhandledRejection", (error) => stray.push(`unhandled: ${(error as Error).stack ?? error}`));
  process.on("uncaughtException", (error) => stray.push(`uncaught: ${error.stack}`));
  const attempt = async (seed: number, verbose: boolean): Promise<Lived> => {
    try {
      return await live(seed, verbose);
    } catch (error) {
      return { breaches: [`it could not be lived: ${(error as Error).stack ?? error}`], digest: "" };
    }
  };
  if (to === undefined) {
    const { lines = [], breaches, digest } = await attempt(from, true);
    console.log([...lines, ...stray, ...breaches.map((b) => `BROKEN ${b}`), `trace ${digest}`].join("\n"));
    process.exitCode = breaches.length + stray.length > 0 ? 1 : 0;
    return;
  }
  for (let seed = from; seed <= to; seed++) {
    // Whoever waits for this process knows where it stands, should a world never end.
    console.log(seed);
    const { breaches } = await attempt(seed, false);
    const all = [...breaches, ...stray.splice(0)];
    if (all.length > 0) console.log(JSON.stringify({ seed, breaches: all } satisfies Report));
  }
}

/**
 * Lives all these worlds, on all processors.
 * @returns a text for people: what the first of those that broke a promise broke, each with what replays it; empty where
 *   none did.
 */
export async function brokenSeeds({ program, seeds, patienceMs }: SeedRun): Promise<string> {
  const all = seeds.to - seeds.from + 1;
  const piece = Math.max(1, Math.min(MOST_IN_PIECE, Math.ceil(all / PROCESSES)));
  const isLong = all > piece * PROCESSES;
  const told: string[] = [];
  let next = seeds.from;
  const worker = async () => {
    while (next <= seeds.to) {
      const from = next;
      const to = Math.min(from + piece - 1, seeds.to);
      next = to + 1;
      const found = (await livePiece(program, { from, to }, patienceMs)).map(
        ({ seed, breaches }) => `bun ${program} ${seed}\n  ${breaches.slice(0, 5).join("\n  ")}`,
      );
      told.push(...found);
      // Whoever breaks it off knows where to go on, and what was found until then.
      if (isLong) console.error([`seeds ${from} to ${to}: ${found.length} broken`, ...found].join("\n"));
    }
  };
  await Promise.all(Array.from({ length: PROCESSES }, worker));
  const more = told.length - MOST_TOLD;
  return [...told.slice(0, MOST_TOLD), ...(more > 0 ? [`and ${more} more`] : [])].join("\n");
}

/** As long as processes end before they are through, others go on behind the world that they ended in. */
async function livePiece(program: string, seeds: SeedRange, patienceMs: number): Promise<Report[]> {
  const reports: Report[] = [];
  for (let from = seeds.from; from <= seeds.to; ) {
    const child = Bun.spawn([process.execPath, program, `${from}`, `${seeds.to}`], {
      ...{ cwd: ROOT, stdout: "pipe", stderr: "inherit" },
    });
    let reached = from;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const wait = () => {
      clearTimeout(timer);
      timer = setTimeout(() => child.kill(), patienceMs);
    };
    try {
      wait();
      for await (const line of linesOf(child.stdout)) {
        wait();
        if (line.startsWith("{")) reports.push(JSON.parse(line));
        else reached = Number(line);
      }
      if ((await child.exited) === 0 && reached === seeds.to) return reports;
      reports.push({ seed: reached, breaches: [`it did not come to its end: ${howItEnded(child)}`] });
      from = reached + 1;
    } finally {
      clearTimeout(timer);
      child.kill();
    }
  }
  return reports;
}

function howItEnded({ exitCode, signalCode }: Bun.Subprocess): string {
  return signalCode === null
    ? `its process ended with ${exitCode}`
    : `its process was ended by ${signalCode}`;
}

async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const chunk of stream) {
    const lines = (rest + decoder.decode(chunk, { stream: true })).split("\n");
    rest = lines.pop()!;
    yield* lines;
  }
}
