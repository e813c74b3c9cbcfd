/**
 * SIGKILLs over real processes at points that a seed decides: one device, two at once, another one while the run gets over the
 * first, the coordinator with the data source in it, or both. Whoever was killed is started again and comes back; every run ends
 * with the weights of one that was spared.
 *
 * TROUPE_KILLS says how many processes are killed, in as many runs as that takes, and TROUPE_KILLS_SEED where.
 */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { seededRandom } from "../../runtime/index.ts";
import { type Event, TINY, Troupe } from "./troupe.ts";

const KILLS = Number(process.env.TROUPE_KILLS ?? 3);
const SEED = Number(process.env.TROUPE_KILLS_SEED ?? 12);
const DEVICES = 3;
const STEPS = 30;
const RUN = [
  ...["--layers", "2", "--steps", `${STEPS}`, "--seed", "7", "--sample", "0", "--copies", "2"],
  ...["--validate-every", "12", "--checkpoint-every", "10"],
];
const STRIKES = [
  "device",
  "two devices",
  "device in a recovery",
  "coordinator",
  "coordinator and device",
] as const;
const LONGEST_MS = 180_000;

const random = seededRandom(SEED);
let folder: string;
const running = new Set<Troupe>();
const nodes: Node[] = [];
let expected: string;

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "troupe-kills-"));
  for (let i = 1; i <= DEVICES; i++) nodes.push(new Node(`node-${i}`));
  const spared = start("train", ...common("spared"), "--devices", "1", "--strategy", "pipeline");
  const [{ code, err, events }] = await Promise.all([spared.ended(), ...nodes.map((node) => node.start())]);
  expect([code, err]).toEqual([0, ""]);
  expected = events.at(-1)!.weights_sha256;
}, LONGEST_MS);
afterAll(() => {
  for (const each of running) each.destroy();
  rmSync(folder, { recursive: true, force: true });
});

function start(...args: readonly string[]): Troupe {
  const each = new Troupe(args);
  running.add(each);
  void each.ended().then(() => running.delete(each));
  return each;
}

function common(out: string): readonly string[] {
  return ["--json", ...TINY.slice(2), ...RUN, "--out", join(folder, out)];
}

/** One that is started again at the same address. */
class Node {
  address = "tcp://127.0.0.1:0";
  private readonly name: string;
  private troupe: Troupe | undefined;
  private listening: Promise<unknown> = Promise.resolve();

  constructor(name: string) {
    this.name = name;
  }

  async start(): Promise<void> {
    this.troupe = start("node", "--json", "--listen", this.address, "--name", this.name);
    const listening = this.troupe.until(({ event }) => event === "listening");
    this.listening = listening;
    this.address = (await listening).address;
  }

  /** Resolves when it can be reached. */
  up(): Promise<unknown> {
    return this.listening;
  }

  /** It comes back by itself. */
  kill(): void {
    const { troupe } = this;
    troupe!.process.kill("SIGKILL");
    this.listening = troupe!.ended().then(() => this.start());
    this.listening.catch(() => {}); // The end of the test.
  }
}

/** A run that goes on when its coordinator is killed, by the same command. */
class Run {
  /** Of all its coordinators. */
  readonly events: Event[] = [];
  private readonly args: readonly string[];
  private led: Troupe;

  constructor(out: string) {
    this.args = ["train", ...common(out), ...nodes.flatMap(({ address }) => ["--join", address])];
    this.led = start(...this.args);
  }

  /** Resolves as soon as an event fits, with whether one did before the run was over. */
  async reaches(fits: (event: Event) => boolean): Promise<boolean> {
    const over = this.led.ended().then(() => false);
    const found = this.led.until(fits).then(
      () => true,
      () => false,
    );
    return Promise.race([found, over]);
  }

  /** @returns whether there was one to kill. */
  async killCoordinator(): Promise<boolean> {
    const isThere = this.led.process.exitCode === null;
    this.led.process.kill("SIGKILL");
    this.events.push(...(await this.led.ended()).events);
    if (this.events.at(-1)?.event !== "done") this.led = start(...this.args);
    return isThere;
  }

  async end(): Promise<{ code: number; err: string; done: Event | undefined }> {
    const { code, err, events } = await this.led.ended();
    return { code, err, done: [...this.events, ...events].findLast(({ event }) => event === "done") };
  }
}

/** @returns how many were killed. */
async function strike(run: Run, what: (typeof STRIKES)[number]): Promise<number> {
  const first = random.integer(nodes.length);
  const second = (first + 1 + random.integer(nodes.length - 1)) % nodes.length;
  switch (what) {
    case "device":
      nodes[first]!.kill();
      return 1;
    case "two devices":
      nodes[first]!.kill();
      nodes[second]!.kill();
      return 2;
    case "device in a recovery": {
      nodes[first]!.kill();
      await Bun.sleep(100 * random.next());
      nodes[second]!.kill();
      return 2;
    }
    case "coordinator":
      return Number(await run.killCoordinator());
    case "coordinator and device":
      nodes[first]!.kill();
      return 1 + Number(await run.killCoordinator());
  }
}

test(
  `${KILLS} SIGKILLs from seed ${SEED}: the weights are those of a run that was spared`,
  async () => {
    let kills = 0;
    const told: Record<string, number> = {};
    for (let round = 0; kills < KILLS; round++) {
      await Promise.all(nodes.map((node) => node.up()));
      const run = new Run(`run-${round}`);
      const strikes: string[] = [];
      for (const from of [1, STEPS / 2]) {
        const step = from + random.integer(STEPS / 2 - 4);
        const what = STRIKES[random.integer(STRIKES.length)]!;
        const afterMs = 40 * random.next();
        if (!(await run.reaches((event) => event.event === "step" && event.step >= step))) break;
        await Bun.sleep(afterMs);
        kills += await strike(run, what);
        strikes.push(`${what} behind step ${step}`);
        told[what] = (told[what] ?? 0) + 1;
      }
      const { code, err, done } = await run.end();
      const about = `round ${round} of seed ${SEED}: ${strikes.join(", ")}; ${err}`;
      expect([about, code, done?.weights_sha256]).toEqual([about, 0, expected]);
    }
    if (KILLS > 3) console.log(`${kills} processes killed:`, told);
  },
  LONGEST_MS * Math.max(1, KILLS / 10),
);
