/**
 * A soak under way: runs follow each other on a fleet of devices, faults come over the devices and the coordinator, and what
 * the processes hold is read all the time. A run that ends with other weights than the one that was spared, that fails, or that
 * stands still is a failure, and is told; the next one begins all the same.
 */

import { mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { seededRandom } from "../../runtime/index.ts";
import { differenceOf } from "./difference.ts";
import type { FaultKind } from "./faults.ts";
import { FleetNode } from "./fleet.ts";
import { Leader } from "./leader.ts";
import { leftovers } from "./leftovers.ts";
import type { SoakEvent } from "./process.ts";
import { type ProcessReading, readProcess } from "./readings.ts";
import { Strikes } from "./strikes.ts";

export interface SoakOptions {
  readonly folder: string;
  readonly seconds: number;
  readonly everySeconds: number;
  /** Ends when so many processes were killed, if that is before the time is up. */
  readonly kills: number;
  readonly seed: number;
  readonly steps: number;
  note(line: string): void;
}

/** What a process was like, over its life or until the soak's end. */
export interface LifeOf {
  readonly name: string;
  readonly pid: number;
  readonly readings: ProcessReading[];
}

export interface SoakRun {
  readonly name: string;
  readonly exact: boolean;
  readonly seconds: number;
}

export interface SoakResult {
  readonly seconds: number;
  readonly runs: readonly SoakRun[];
  /** In words. */
  readonly failures: readonly string[];
  readonly given: readonly FaultKind[];
  readonly kills: { readonly device: number; readonly coordinator: number };
  readonly steps: number;
  readonly recovered: readonly SoakEvent[];
  readonly resumed: readonly SoakEvent[];
  /** Devices that were given up without a fault of ours. */
  readonly unforeseen: number;
  readonly lives: readonly LifeOf[];
  readonly left: readonly string[];
}

const TEXT = join(import.meta.dir, "../../test/fixtures/text.txt");
const DEVICES = 5;
/** The first ones are never killed. */
const STEADY = 2;
const COPIES = 2;
const PATIENCE_MS = 6000;
const PAUSE_MS = 70;
const READ_MS = 10_000;
/** Without a word for so long, a run stands still; whoever hangs may take two minutes to find it out. */
const STILL_SECONDS = 300;
const END_MS = 20_000;

export class Soak {
  private readonly options: SoakOptions;
  private readonly mark: string;
  private readonly temporary: string;
  private readonly nodes: readonly FleetNode[];
  private readonly leader: Leader;
  private readonly strikes: Strikes;
  private readonly addresses = new Set<string>();
  private readonly lives: LifeOf[] = [];
  private readonly runs: SoakRun[] = [];
  private readonly failures: string[] = [];
  private readonly recovered: SoakEvent[] = [];
  private readonly resumed: SoakEvent[] = [];
  private began = performance.now();
  /** When something was last heard of the run. */
  private heard = performance.now();
  private steps = 0;
  private unforeseen = 0;
  /** Weights of the run that was spared. */
  private expected: string | undefined;
  private ending = false;
  /** Of the run that is under way. */
  private number = 0;
  private runBegan = performance.now();
  private works: readonly string[] = [];
  private over: () => void = () => {};

  constructor(options: SoakOptions) {
    this.options = options;
    const { folder, steps, seed } = options;
    const mark = `${process.pid}-${seed}`;
    this.mark = `TROUPE_SOAK=${mark}`;
    this.temporary = join(folder, "temporary");
    const cache = join(folder, "cache");
    for (const each of [this.temporary, cache]) mkdirSync(each);
    const common = {
      environment: { TROUPE_SOAK: mark, TMPDIR: this.temporary, XDG_CACHE_HOME: cache },
      note: (line: string) => this.note(line),
    };
    this.nodes = Array.from(
      { length: DEVICES },
      (_, i) => new FleetNode(`node-${i + 1}`, i < STEADY, { ...common, patienceMs: PATIENCE_MS }),
    );
    this.leader = new Leader({
      ...common,
      nodes: this.nodes,
      settings: {
        ...{ folder, steps, seed, data: TEXT },
        ...{ copies: COPIES, patienceMs: PATIENCE_MS, pauseMs: PAUSE_MS },
      },
      started: (pid) => this.watch("coordinator", pid),
      hear: (event) => this.hear(event),
      died: (how) => {
        this.fail(`the coordinator ended with ${how}`);
        this.strikes.behead();
        this.strikes.errand(() => this.lead());
      },
    });
    this.strikes = new Strikes({
      ...{ random: seededRandom(seed), nodes: this.nodes, leader: this.leader, patienceMs: PATIENCE_MS },
      isOver: () => this.isOver,
      // In the second half of a soak nobody kills the coordinator, so that one lives long enough to be judged.
      mayBehead: () => Number.isFinite(options.kills) || this.seconds < options.seconds / 2,
      works: (name) => this.works.includes(name),
      lead: () => this.lead(),
      note: (line) => this.note(line),
      fail: (what) => this.fail(what),
    });
  }

  async run(): Promise<SoakResult> {
    let timers: ReturnType<typeof setInterval>[] = [];
    try {
      await Promise.all(this.nodes.map((node) => node.start()));
      for (const { steady, name, pid } of this.nodes) if (steady) this.watch(name, pid);
      this.watch("this bench", process.pid);
      await this.leader.start();
      await this.train();
      if (this.expected === undefined) {
        throw new Error(`the run that was to be spared failed: ${this.failures.join("; ")}`);
      }
      this.began = performance.now();
      timers = [
        setInterval(() => this.read(), READ_MS),
        setInterval(() => this.checkStill(), 1000),
        setInterval(() => this.strikes.strike(), this.options.everySeconds * 1000),
      ];
      while (!this.isOver) await this.train();
    } finally {
      for (const timer of timers) clearInterval(timer);
      await this.strikes.end(END_MS);
      await this.close();
    }
    const { runs, failures, steps, recovered, resumed, unforeseen, lives, seconds } = this;
    const pids = [...lives.map(({ pid }) => pid), ...this.nodes.flatMap((node) => node.pids)];
    const traces = { mark: this.mark, addresses: this.addresses, temporary: this.temporary };
    const left = await leftovers({ ...traces, pids: new Set(pids) });
    const { given, kills } = this.strikes;
    return {
      ...{ seconds, runs, failures, given, kills, steps, recovered, resumed },
      ...{ unforeseen, lives, left },
    };
  }

  private get seconds(): number {
    return (performance.now() - this.began) / 1000;
  }

  private get isOver(): boolean {
    return this.seconds >= this.options.seconds || this.strikes.killed >= this.options.kills;
  }

  private note(line: string): void {
    this.options.note(`${this.seconds.toFixed(1).padStart(7)} run ${this.number} ${line}`);
  }

  private fail(what: string): void {
    this.failures.push(`run ${this.number}, ${this.seconds.toFixed(0)} s: ${what}`);
    this.note(`FAILED ${what}`);
  }

  // --- runs ------------------------------------------------------------------------------------------------------

  /** The next run, to its end, whoever leads it. */
  private train(): Promise<void> {
    this.runBegan = performance.now();
    return new Promise((resolve) => {
      this.over = resolve;
      this.startRun();
    });
  }

  /** Where there is no coordinator now, the next one starts it. */
  private startRun(): void {
    this.heard = performance.now();
    this.leader.say(`run run-${this.number}`);
  }

  /** Another coordinator goes on with the run. */
  private async lead(): Promise<void> {
    if (this.ending) return;
    if (await this.leader.start()) this.startRun();
  }

  private hear(event: SoakEvent): void {
    this.heard = performance.now();
    if (this.ending) return;
    if (event.works) this.works = event.works;
    const node = this.nodes.find(({ name }) => name === event.name);
    switch (event.event) {
      case "step":
        this.steps++;
        return;
      case "validation":
      case "checkpoint":
        return;
      case "failed":
        this.fail(`${event.code ?? ""} ${event.stack}`);
        this.ended(undefined);
        return;
      case "device_joined":
        node!.isHere = true;
        for (const address of event.addresses) this.addresses.add(address);
        break;
      case "device_left":
        node!.isHere = false;
        if (!this.strikes.foresaw(node!.name)) this.unforeseen++;
        // It lives, and was given up by mistake, or because the coordinator stood still.
        if (node!.isUp) this.leader.say(`join ${node!.address}`);
        break;
      case "recovered":
        this.recovered.push(event);
        break;
      case "resumed":
        this.resumed.push(event);
        break;
    }
    this.note(JSON.stringify(event));
    if (event.event === "done") this.ended(event.weights_sha256);
  }

  /** @param weights undefined of a run that did not come to its end. */
  private ended(weights: string | undefined): void {
    const seconds = (performance.now() - this.runBegan) / 1000;
    if (this.expected === undefined) this.expected = weights;
    else {
      const exact = weights === this.expected;
      if (weights !== undefined && !exact) {
        this.fail(`weights ${weights}, of the run that was spared ${this.expected}`);
        const [own, spared] = [this.number, 0].map((run) => join(this.folderOf(run), "checkpoint"));
        this.strikes.errand(async () => this.note(await differenceOf(own!, spared!)));
      }
      this.runs.push({ name: `run-${this.number}`, exact, seconds });
    }
    // Others are for whoever looks into them, and the one that was spared to be compared with.
    if (weights === this.expected && this.number > 0) {
      rmSync(this.folderOf(this.number), { recursive: true, force: true });
    }
    this.number++;
    this.over();
  }

  private folderOf(run: number): string {
    return join(this.options.folder, `run-${run}`);
  }

  /** A run that stands still is given up, with its coordinator. */
  private checkStill(): void {
    if (performance.now() - this.heard < STILL_SECONDS * 1000) return;
    this.fail(`nothing was heard for ${STILL_SECONDS} s`);
    this.strikes.behead();
    this.ended(undefined);
    this.strikes.errand(() => this.lead());
  }

  // --- processes -------------------------------------------------------------------------------------------------

  private watch(name: string, pid: number): void {
    this.lives.push({ name, pid, readings: [] });
  }

  private read(): void {
    for (const { pid, readings } of this.lives) {
      const reading = readProcess(pid, this.seconds);
      if (reading) readings.push(reading);
    }
  }

  private async close(): Promise<void> {
    this.ending = true;
    if (!(await this.leader.end(END_MS))) this.fail("the coordinator did not end when it was asked to");
    await Promise.all(
      this.nodes.map(async (node) => {
        if (!(await node.end(END_MS))) this.fail(`${node.name} did not end when it was asked to`);
      }),
    );
  }
}
