/**
 * A simulated cluster that trains: coordinators and devices, each on a machine of its own, on one virtual clock and one
 * simulated network, with engines whose kernels take the world's time. Everything in it follows from its seed.
 */

import { historyOf } from "../../../../actors/journal/history.ts";
import type { Journal } from "../../../../actors/journal/journal.ts";
import { MemoryJournal } from "../../../../actors/journal/memory.ts";
import type { Files } from "../../../../runtime/platform/files.ts";
import { seededRandom } from "../../../../runtime/random.ts";
import type { Host } from "../../../sim/host.ts";
import { Chronicle } from "./chronicle.ts";
import { Cluster, described, GRACE_MS } from "./cluster.ts";
import { Coordinator } from "./coordinator.ts";
import { Disk } from "./disk.ts";
import type { Event, Fault } from "./faults.ts";
import { anotherPlan, grownPlan } from "./migrations.ts";
import { type Phase, presentPlan, runIsDone, wantPlan } from "./phases.ts";
import type { Shape } from "./shapes.ts";

/** Enough for every detector and shutdown. */
const PATIENCE_MS = 60_000;
/** Far longer than any run here takes, with everything that is done to it. */
const FOREVER_MS = 1_200_000;
/** After so long somebody comes to help a run that waits for devices. */
const HELP_MS = 20_000;
/** Machines that there may be, or one more than it begins with. */
const MOST_DEVICES = 9;

export interface WorldOptions {
  readonly shape: Shape;
  readonly seed: number;
  readonly copies: number;
  /** Devices that the run begins with beside those that it needs. */
  readonly spare: number;
  /** Whether devices may join, and the run waits where it has too few. */
  readonly waits: boolean;
  /** That a device has; more than enough when left out. */
  readonly memoryBytes?: number | undefined;
  readonly verbose?: boolean;
}

export class TrainingWorld {
  readonly cluster: Cluster;
  readonly record: Chronicle;
  /** Of all phases so far. */
  readonly counts = new Map<Phase, number>();
  /** Whether there was a recovery point when the first fault struck; undefined before. */
  wasKept: boolean | undefined;
  /** Whether it was to go over to a plan with more devices that share micro-batches. */
  hasGrown = false;
  /** So many coordinators were killed, and the longest that devices were without. */
  killed = 0;
  longestMs = 0;
  private readonly disk = new Disk();
  /** Devices of the plan that were known to be gone one step before the end. */
  private departed: string[] = [];
  private readonly options: WorldOptions;
  private readonly journal = new MemoryJournal();
  /** Settles with the pause until another one is started. */
  private coordinatorLost = Promise.withResolvers<number>();
  private coordinator: Coordinator | undefined;
  /** What is still to happen; the first is armed. */
  private faults: Fault[] = [];
  /** With what they begin to. */
  private beginning: Phase = "Stage.train";
  private begun = false;
  private waited = new Map<Phase, number>();

  constructor(options: WorldOptions) {
    const { shape, seed, spare, memoryBytes = 2 ** 30, verbose = false } = options;
    this.options = options;
    this.cluster = new Cluster({ seed, memoryBytes, verbose }, (phase, device) => this.came(phase, device));
    this.record = new Chronicle(this.cluster.trace);
    for (let i = 0; i < shape.devices + spare; i++) this.cluster.add();
  }

  /** Of the coordinator. */
  get files(): Files {
    return this.disk.through(this.coordinator!.host);
  }

  /** Lets `work` run to its end. @throws Error where it never comes. */
  async run<T>(work: Promise<T>, what: string, forMs = FOREVER_MS): Promise<T> {
    let settled = false;
    const end = () => {
      settled = true;
    };
    work.then(end, end);
    await this.cluster.clock.advance(forMs, () => settled);
    if (!settled) throw new Error(`${what} waits for ever`);
    return work;
  }

  /**
   * Trains, with as many coordinators as it takes; `faults` begin when the first step does, or, where that is asked for, as
   * soon as devices have been found.
   * @returns whether there was anybody left to go on with.
   */
  async train(faults: readonly Fault[], early = false): Promise<boolean> {
    this.faults = [...faults];
    this.beginning = early ? "Device.describe" : "Stage.train";
    for (const machine of this.cluster.machines) await this.cluster.start(machine);
    for (;;) {
      const coordinator = this.lead();
      this.coordinator = coordinator;
      this.record.begins();
      const killed = Promise.withResolvers<number>();
      this.coordinatorLost = killed;
      let pause: unknown;
      try {
        pause = await Promise.race([coordinator.lead(), killed.promise]);
      } catch (error) {
        const left = coordinator.places.some(({ name }) => !this.cluster.struck.has(name));
        if (left || (error as { code?: unknown }).code !== "DEVICE_LOST") throw error;
        if (!this.options.waits) return false;
        // One that goes on with a run that nobody is left of says so; somebody starts another one.
        await coordinator.node.close();
        pause = this.without(coordinator.host, GRACE_MS);
      }
      if (typeof pause !== "number") return true;
      await this.cluster.clock.sleep(pause);
      await this.helpUp();
    }
  }

  /** A coordinator is no more; devices are without one for so long. */
  private without(host: Host, ms: number, silent = false): number {
    this.killed++;
    this.longestMs = Math.max(this.longestMs, ms);
    host.die();
    this.cluster.network.vanish(host, silent);
    return ms;
  }

  private lead(): Coordinator {
    const { shape, copies, waits } = this.options;
    const { machines, struck } = this.cluster;
    for (const { name, host: own } of machines) if (!own.alive || own.isFrozen) struck.add(name);
    const { host, node } = this.cluster.boot("coordinator");
    return new Coordinator({
      ...{ host, node, shape, copies, waits, trace: this.cluster.trace },
      files: this.disk.through(host),
      journal: this.journalOf(host),
      machines: () => this.cluster.living(),
      nobody: () => this.helpUp(),
      missed: ({ name }) => void this.cluster.struck.add(name),
      emit: (event) => {
        if (!host.alive) return;
        this.record.tell(event);
        // Until then steps are broken off.
        if (event.event === "done") runIsDone();
        if (event.event === "step" && event.step === shape.steps - 1) this.departed = this.gone();
        if (event.event === "paused") void this.helpOut();
      },
    });
  }

  /** As one machine writes it. */
  private journalOf(host: Host): Journal {
    const { journal } = this;
    return {
      append: (records) => host.sleep(1).then(() => journal.append(records)),
      read: () => host.sleep(1).then(() => journal.read()),
      close: async () => {},
    };
  }

  /** Devices of the plan that were gone one step before the end, and that nobody was told of. */
  untold(): string[] {
    const told = new Set(this.record.of("recovered").flatMap(({ lost }) => lost));
    const untold = this.killed > 0 ? [] : this.departed.filter((name) => !told.has(name));
    return untold.map((name) => `nobody was told that ${name} is gone`);
  }

  private gone(): string[] {
    const here = new Set(this.coordinator!.node.peers().map(({ name }) => name));
    const used = (this.record.plan?.stages ?? []).flatMap(({ members }) => members);
    return this.cluster.machines.flatMap(({ name, host }) => {
      const isGone = !host.alive && !here.has(name);
      return isGone && used.some(({ deviceName }) => deviceName === name) ? [name] : [];
    });
  }

  /** As long as the run does not go on, whoever is not in it comes. */
  private async helpOut(): Promise<void> {
    for (let { progress } = this.record; progress === this.record.progress; ) {
      await this.cluster.clock.sleep(HELP_MS);
      if (progress === this.record.progress) await this.help();
    }
  }

  /** There is somebody to go on with; whoever begins has as many as the run is for. */
  private async helpUp(): Promise<void> {
    const { records } = await this.journal.read();
    const isPlanned = (historyOf(records)?.planned ?? null) !== null;
    const least = isPlanned ? 1 : this.options.shape.devices;
    while (this.cluster.living().length < least) {
      const off = this.cluster.machines.findIndex(({ host }) => !host.alive);
      if (off >= 0) await this.switchOn(off);
      // It stands still.
      else await this.cluster.clock.sleep(HELP_MS);
    }
  }

  private async help(): Promise<void> {
    const off = this.cluster.machines.findIndex(({ host }) => !host.alive);
    if (off >= 0) await this.switchOn(off);
    for (const machine of this.cluster.living()) void this.coordinator?.greet(machine);
  }

  private async switchOn(device: number): Promise<void> {
    const machine = this.cluster.add(device);
    this.cluster.trace.note("on", machine.name);
    await this.cluster.start(machine);
    void this.coordinator?.greet(machine);
  }

  /** Ends the run; what devices that are alive still hold of it, in words. */
  async end(): Promise<string[]> {
    this.faults = [];
    this.cluster.network.heal();
    for (const { host } of this.cluster.machines) if (host.isFrozen) host.thaw();
    await this.cluster.clock.advance(PATIENCE_MS, () => this.held().length === 0);
    const held = this.held();
    const nodes = [this.coordinator!, ...this.cluster.machines].filter(({ host }) => host.alive);
    await this.run(Promise.all(nodes.map((each) => each.node.close())), "the end of the nodes");
    await this.cluster.clock.advance(PATIENCE_MS);
    const left = nodes.flatMap(({ host }) => {
      const pipes = [...this.cluster.network.pipes].filter((pipe) => pipe.from === host).length;
      return described(host.name, { timers: host.pending, connections: pipes });
    });
    const { listening } = this.cluster.network;
    return [...held, ...left, ...(listening > 0 ? [`${listening} addresses are taken`] : [])];
  }

  private held(): string[] {
    const { host, node } = this.coordinator!;
    const led = host.alive ? described("the coordinator", { actors: node.status().actors }) : [];
    return [...led, ...this.cluster.held()];
  }

  private came(phase: Phase, device: number): void {
    this.cluster.trace.note("at", device, phase);
    this.counts.set(phase, (this.counts.get(phase) ?? 0) + 1);
    if (!this.begun && phase === this.beginning) {
      this.begun = true;
      this.arm();
    }
    const when = this.begun ? this.faults[0]?.when : undefined;
    if (!this.cluster.machines[device]!.host.alive || !when || !("phase" in when) || when.phase !== phase)
      return;
    const count = (this.waited.get(phase) ?? 0) + 1;
    this.waited.set(phase, count);
    if (count !== when.count) return;
    const fault = this.faults.shift()!;
    const strike = () => this.strike(fault, device);
    if (when.delayMs === 0) strike();
    else this.cluster.clock.setTimer(strike, when.delayMs);
  }

  private arm(): void {
    const fault = this.faults[0];
    this.waited = new Map();
    if (!fault || !("afterMs" in fault.when)) return;
    this.faults.shift();
    this.cluster.clock.setTimer(() => this.strike(fault, 0), fault.when.afterMs);
  }

  private strike({ who, what }: Fault, there: number): void {
    // Behind its end nothing happens to a run.
    if (this.record.isDone) return;
    this.wasKept ??= this.counts.has("Stage.forgetBefore");
    const device = who === "there" ? there : who;
    this.cluster.trace.note("fault", device, JSON.stringify(what));
    switch (what.kind) {
      case "leave":
      case "return":
      case "join":
      case "migrate":
      case "blackout":
      case "coordinator":
        this.happen(device, what);
        break;
      default:
        this.cluster.harm(this.cluster.machines[device]!, what, this.coordinator!.host);
    }
    this.arm();
  }

  private happen(device: number, event: Event): void {
    const machine = this.cluster.machines[device]!;
    switch (event.kind) {
      case "leave":
        if (!machine.host.alive) return;
        this.cluster.struck.add(machine.name);
        void machine.node.close().then(() => this.cluster.switchOff(machine, false));
        return;
      case "return":
        if (machine.host.alive) void this.coordinator?.greet(machine);
        else void this.switchOn(device);
        return;
      case "join":
        if (this.cluster.machines.length < Math.max(MOST_DEVICES, this.options.shape.devices + 2))
          void this.switchOn(this.cluster.machines.length);
        return;
      case "migrate":
        this.migrate(event.number);
        return;
      case "blackout":
        for (const each of this.cluster.machines) {
          this.cluster.struck.add(each.name);
          this.cluster.switchOff(each, event.silent);
        }
        return;
      case "coordinator": {
        const { host } = this.coordinator!;
        if (host.alive) this.coordinatorLost.resolve(this.without(host, event.afterMs, event.silent));
      }
    }
  }

  /** The run is to go over to another plan, for those that are there. */
  private migrate(number: number): void {
    const { places, host } = this.coordinator!;
    const { plan } = this.record;
    // One that was cut off and has come again is in its last place.
    const candidates = places.flatMap((place, id) =>
      place.host.alive && places.lastIndexOf(place) === id ? [{ id: `${id}`, name: place.name }] : [],
    );
    if (!plan || !host.alive || candidates.length === 0) return;
    const { shape } = this.options;
    const random = seededRandom(number);
    const present = presentPlan();
    const grown = present && number % 2 === 0 ? grownPlan(present, shape.model, candidates, random) : null;
    if (grown) this.hasGrown = true;
    wantPlan(grown ?? anotherPlan(plan, shape, candidates, random));
  }
}
