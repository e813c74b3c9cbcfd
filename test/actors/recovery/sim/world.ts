/**
 * A simulated cluster that trains: coordinators and devices, each on a machine of its own, on one virtual clock and one
 * simulated network, with engines whose kernels take the world's time. Everything in it follows from its seed.
 */

import type { Journal } from "../../../../actors/journal/journal.ts";
import { MemoryJournal } from "../../../../actors/journal/memory.ts";
import { Stage } from "../../../../actors/stage.ts";
import type { Engine } from "../../../../nn/engine/engine.ts";
import { VirtualClock } from "../../../../runtime/clock.ts";
import { NodeRuntime } from "../../../../runtime/node.ts";
import type { Files } from "../../../../runtime/platform/files.ts";
import { type Random, seededRandom } from "../../../../runtime/random.ts";
import { Host } from "../../../sim/host.ts";
import { SimNetwork } from "../../../sim/network.ts";
import { Trace } from "../../../sim/trace.ts";
import { Chronicle } from "./chronicle.ts";
import { Coordinator } from "./coordinator.ts";
import { SimulatedDevice } from "./device.ts";
import { Disk } from "./disk.ts";
import { simulatedEngine } from "./engine.ts";
import type { Event, Fault, Harm } from "./faults.ts";
import { anotherPlan } from "./migrations.ts";
import { onPhase, type Phase, wantPlan } from "./phases.ts";
import { pick, type Shape } from "./shapes.ts";

const START = 1_000_000;
const HEARTBEAT = { intervalMs: 500, patienceMs: 2500 };
/** How long copies wait for another coordinator. */
export const GRACE_MS = 20_000;
/** Enough for every detector and shutdown. */
const PATIENCE_MS = 60_000;
/** Far longer than any run here takes, with everything that is done to it. */
const FOREVER_MS = 3_600_000;
/** After so long somebody comes to help a run that waits for devices. */
const HELP_MS = 20_000;
const MOST_DEVICES = 9;

export interface Machine {
  readonly name: string;
  readonly host: Host;
  readonly node: NodeRuntime;
  readonly engine: Engine;
  slowness: number;
}

export interface WorldOptions {
  readonly shape: Shape;
  readonly seed: number;
  readonly copies: number;
  /** Devices that the run begins with beside those that it needs. */
  readonly spare: number;
  /** Whether devices may join, and the run waits where it has too few. */
  readonly waits: boolean;
  readonly verbose?: boolean;
}

export class TrainingWorld {
  readonly clock = new VirtualClock(START);
  readonly random: Random;
  readonly trace: Trace;
  readonly record: Chronicle;
  /** Of all phases so far. */
  readonly counts = new Map<Phase, number>();
  /** Whether there was a recovery point when the first fault struck; undefined before. */
  wasKept: boolean | undefined;
  /** Names of devices that something has happened to that may have taken them away from the run. */
  readonly struck = new Set<string>();
  /** So many coordinators were killed, and the longest that devices were without. */
  killed = 0;
  longestMs = 0;
  private readonly disk = new Disk();
  /** Devices of the plan that were known to be gone one step before the end. */
  private departed: string[] = [];
  /** By number; one that was switched on again is in the place of the one that was off. */
  private readonly machines: Machine[] = [];
  private readonly options: WorldOptions;
  private readonly network: SimNetwork;
  private readonly journal = new MemoryJournal();
  /** Settles with the pause until another one is started. */
  private coordinatorLost = Promise.withResolvers<number>();
  private coordinator: Coordinator | undefined;
  /** What is still to happen; the first is armed. */
  private faults: Fault[] = [];
  private begun = false;
  private waited = new Map<Phase, number>();

  constructor(options: WorldOptions) {
    const { shape, seed, spare, verbose = false } = options;
    this.options = options;
    this.random = seededRandom(seed);
    this.trace = new Trace(() => this.clock.now() - START, verbose);
    this.record = new Chronicle(this.trace);
    const { random } = this;
    const settings = {
      maxDelayMs: pick(random, [1, 2, 10, 60]),
      jitterMs: pick(random, [0, 0, 2, 10]),
      capacityBytes: pick(random, [20_000, 1_000_000]),
      chunkBytes: pick(random, [2000, 65_536]),
      split: pick(random, [0, 0, 0.2]),
    };
    this.network = new SimNetwork(this.clock, settings, seededRandom(seed + 0.5 * 2 ** 32), this.trace);
    for (let i = 0; i < shape.devices + spare; i++) this.add();
  }

  /** Machine number `i` is switched on, with nothing on it. */
  private add(i = this.machines.length): Machine {
    const { random } = this;
    const name = `device-${i}`;
    const { host, node } = this.boot(name);
    const kernelMs = pick(random, [0.1, 1, 5]);
    const pace = () => machine.slowness * kernelMs * (0.5 + random.next());
    const machine: Machine = {
      ...{ name, host, node, slowness: 1 },
      engine: simulatedEngine(host, pace, random.next() < 0.3),
    };
    this.machines[i] = machine;
    onPhase(node, (phase) => this.came(phase, i));
    return machine;
  }

  private async start({ name, node, engine }: Machine): Promise<void> {
    const claims = { host: name, memoryBytes: 2 ** 30 };
    await node.spawn(SimulatedDevice, [name, async () => engine, claims, undefined, GRACE_MS], { name });
    await node.listen(`sim://${name}`);
  }

  private boot(name: string): { host: Host; node: NodeRuntime } {
    const host = new Host(name, this.clock);
    const node = new NodeRuntime({
      ...{ name, id: name, clock: host, heartbeat: HEARTBEAT, actors: { Device: SimulatedDevice, Stage } },
      transports: [this.network.transport(host)],
      random: seededRandom(this.options.seed * 31 + this.random.integer(2 ** 30)),
      log: ({ message, error }) => {
        if (host.alive) this.trace.note("log", name, message, error?.stack ?? "");
      },
    });
    return { host, node };
  }

  /** Milliseconds since its beginning. */
  get now(): number {
    return this.clock.now() - START;
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
    await this.clock.advance(forMs, () => settled);
    if (!settled) throw new Error(`${what} waits for ever`);
    return work;
  }

  /**
   * Trains, with as many coordinators as it takes; `faults` begin when the first step does.
   * @returns whether there was anybody left to go on with.
   */
  async train(faults: readonly Fault[]): Promise<boolean> {
    this.faults = [...faults];
    for (const machine of this.machines) await this.start(machine);
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
        const left = coordinator.places.some(({ name }) => !this.struck.has(name));
        if (left || (error as { code?: unknown }).code !== "DEVICE_LOST") throw error;
        if (!this.options.waits) return false;
        // One that goes on with a run that nobody is left of says so; somebody starts another one.
        await coordinator.node.close();
        pause = this.without(coordinator.host, GRACE_MS);
      }
      if (typeof pause !== "number") return true;
      await this.clock.sleep(pause);
      if (this.living().length === 0) await this.help();
    }
  }

  /** A coordinator is no more; devices are without one for so long. */
  private without(host: Host, ms: number, silent = false): number {
    this.killed++;
    this.longestMs = Math.max(this.longestMs, ms);
    host.die();
    this.network.vanish(host, silent);
    return ms;
  }

  private lead(): Coordinator {
    const { shape, copies, waits } = this.options;
    const { host, node } = this.boot("coordinator");
    return new Coordinator({
      ...{ host, node, shape, copies, waits, trace: this.trace },
      files: this.disk.through(host),
      journal: this.journalOf(host),
      machines: () => this.living(),
      emit: (event) => {
        if (!host.alive) return;
        this.record.tell(event);
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
    return this.machines.flatMap(({ name, host }) => {
      const isGone = !host.alive && !here.has(name);
      return isGone && used.some(({ deviceName }) => deviceName === name) ? [name] : [];
    });
  }

  private living(): Machine[] {
    return this.machines.filter(({ host }) => host.alive && !host.isFrozen);
  }

  /** As long as the run does not go on, whoever is not in it comes. */
  private async helpOut(): Promise<void> {
    for (let { progress } = this.record; progress === this.record.progress; ) {
      await this.clock.sleep(HELP_MS);
      if (progress === this.record.progress) await this.help();
    }
  }

  private async help(): Promise<void> {
    const off = this.machines.findIndex(({ host }) => !host.alive);
    if (off >= 0) await this.switchOn(off);
    for (const machine of this.living()) void this.coordinator?.greet(machine);
  }

  private async switchOn(device: number): Promise<void> {
    const machine = this.add(device);
    this.trace.note("on", machine.name);
    await this.start(machine);
    void this.coordinator?.greet(machine);
  }

  /** Ends the run; what devices that are alive still hold of it, in words. */
  async end(): Promise<string[]> {
    this.faults = [];
    this.network.heal();
    for (const { host } of this.machines) if (host.isFrozen) host.thaw();
    await this.clock.advance(PATIENCE_MS, () => this.held().length === 0);
    const held = this.held();
    const nodes = [this.coordinator!, ...this.machines].filter(({ host }) => host.alive);
    await this.run(Promise.all(nodes.map((each) => each.node.close())), "the end of the nodes");
    await this.clock.advance(PATIENCE_MS);
    const left = nodes.flatMap(({ host }) => {
      const pipes = [...this.network.pipes].filter((pipe) => pipe.from === host).length;
      return described(host.name, { timers: host.pending, connections: pipes });
    });
    const { listening } = this.network;
    return [...held, ...left, ...(listening > 0 ? [`${listening} addresses are taken`] : [])];
  }

  private held(): string[] {
    const { host, node } = this.coordinator!;
    const led = host.alive ? described("the coordinator", { actors: node.status().actors }) : [];
    const devices = this.machines.flatMap(({ name, host: own, node: on, engine }) => {
      if (!own.alive) return [];
      const { tensors, executables, bindings } = engine.usage();
      return described(name, { tensors, executables, bindings, actors: on.status().actors - 1 });
    });
    return [...led, ...devices];
  }

  private came(phase: Phase, device: number): void {
    this.trace.note("at", device, phase);
    this.counts.set(phase, (this.counts.get(phase) ?? 0) + 1);
    if (!this.begun && phase === "Stage.train") {
      this.begun = true;
      this.arm();
    }
    const when = this.begun ? this.faults[0]?.when : undefined;
    if (!this.machines[device]!.host.alive || !when || !("phase" in when) || when.phase !== phase) return;
    const count = (this.waited.get(phase) ?? 0) + 1;
    this.waited.set(phase, count);
    if (count !== when.count) return;
    const fault = this.faults.shift()!;
    const strike = () => this.strike(fault, device);
    if (when.delayMs === 0) strike();
    else this.clock.setTimer(strike, when.delayMs);
  }

  private arm(): void {
    const fault = this.faults[0];
    this.waited = new Map();
    if (!fault || !("afterMs" in fault.when)) return;
    this.faults.shift();
    this.clock.setTimer(() => this.strike(fault, 0), fault.when.afterMs);
  }

  private strike({ who, what }: Fault, there: number): void {
    // Behind its end nothing happens to a run.
    if (this.record.isDone) return;
    this.wasKept ??= this.counts.has("Stage.forgetBefore");
    const device = who === "there" ? there : who;
    this.trace.note("fault", device, JSON.stringify(what));
    switch (what.kind) {
      case "leave":
      case "return":
      case "join":
      case "migrate":
      case "coordinator":
        this.happen(device, what);
        break;
      default:
        this.harm(this.machines[device]!, what);
    }
    this.arm();
  }

  private happen(device: number, event: Event): void {
    const machine = this.machines[device]!;
    switch (event.kind) {
      case "leave":
        if (!machine.host.alive) return;
        this.struck.add(machine.name);
        void machine.node.close().then(() => this.switchOff(machine, false));
        return;
      case "return":
        if (machine.host.alive) void this.coordinator?.greet(machine);
        else void this.switchOn(device);
        return;
      case "join":
        if (this.machines.length < MOST_DEVICES) void this.switchOn(this.machines.length);
        return;
      case "migrate":
        this.migrate(event.number);
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
    const candidates = places.flatMap(({ name, host: own }, id) =>
      own.alive ? [{ id: `${id}`, name }] : [],
    );
    if (!plan || !host.alive || candidates.length === 0) return;
    const { model } = this.options.shape;
    wantPlan(anotherPlan(plan, model, candidates, seededRandom(number)));
  }

  private switchOff({ host }: Machine, silent: boolean): void {
    if (!host.alive) return;
    host.die();
    this.network.vanish(host, silent);
  }

  private harm(machine: Machine, harm: Harm): void {
    const { host } = machine;
    if (!host.alive) return;
    if (takesAway(harm)) this.struck.add(machine.name);
    // One of two that do not reach each other is done without, if it is for long.
    if (harm.kind === "block" && harm.other !== null && isLong(harm)) {
      this.struck.add(machine.name).add(this.machines[harm.other]!.name);
    }
    switch (harm.kind) {
      case "kill":
      case "vanish":
        this.switchOff(machine, harm.kind === "vanish");
        break;
      case "freeze":
        host.freeze();
        this.clock.setTimer(() => host.alive && host.thaw(), harm.ms);
        break;
      case "slow":
        machine.slowness = harm.times;
        break;
      case "cut":
        for (const pipe of [...this.network.pipes]) {
          if (pipe.from === host && pipe.to === this.hostOf(harm.other)) this.network.cut(pipe);
        }
        break;
      case "block": {
        const other = this.hostOf(harm.other).name;
        const block = (blocked: boolean) => {
          this.network.block(host.name, other, blocked);
          this.network.block(other, host.name, blocked);
        };
        block(true);
        this.clock.setTimer(() => block(false), harm.ms);
      }
    }
  }

  private hostOf(device: number | null): Host {
    return device === null ? this.coordinator!.host : this.machines[device]!.host;
  }
}

/** Whether a device may be taken for gone by the coordinator. */
function takesAway(harm: Harm): boolean {
  if (harm.kind === "kill" || harm.kind === "vanish") return true;
  if (harm.kind === "cut") return harm.other === null;
  if (harm.kind === "block" && harm.other !== null) return false;
  return "ms" in harm && isLong(harm);
}

function isLong({ ms }: { readonly ms: number }): boolean {
  return ms >= HEARTBEAT.patienceMs / 2;
}

function described(name: string, counts: Readonly<{ [what: string]: number }>): string[] {
  return Object.entries(counts).flatMap(([what, count]) =>
    count === 0 ? [] : [`${name} still has ${count} ${what}`],
  );
}
