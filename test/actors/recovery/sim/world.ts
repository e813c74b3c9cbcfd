/**
 * A simulated cluster that trains: a coordinator and devices, each on a machine of its own, on one virtual clock and one
 * simulated network, with engines whose kernels take the world's time. Everything in it follows from its seed.
 */

import { DataSource } from "../../../../actors/data/source.ts";
import { Device } from "../../../../actors/device.ts";
import { type RunRecovery, Scheduler } from "../../../../actors/scheduler/scheduler.ts";
import { Stage } from "../../../../actors/stage.ts";
import type { Engine } from "../../../../nn/engine/engine.ts";
import { heldInputs } from "../../../../nn/model.ts";
import { DEFAULT_ADAMW } from "../../../../nn/optim/adamw.ts";
import { Tensor } from "../../../../protocols/tensor.ts";
import { VirtualClock } from "../../../../runtime/clock.ts";
import { NodeRuntime } from "../../../../runtime/node.ts";
import { type Random, seededRandom } from "../../../../runtime/random.ts";
import type { Ref } from "../../../../runtime/ref.ts";
import { Host } from "../../../sim/host.ts";
import { SimNetwork } from "../../../sim/network.ts";
import { Trace } from "../../../sim/trace.ts";
import { simulatedEngine } from "./engine.ts";
import type { Fault, Harm } from "./faults.ts";
import { onPhase, type Phase } from "./phases.ts";
import { pick, SEED, type Shape } from "./shapes.ts";

const START = 1_000_000;
const HEARTBEAT = { intervalMs: 500, patienceMs: 2500 };
/** Enough for every detector and shutdown. */
const PATIENCE_MS = 60_000;
/** Far longer than any run here takes, with everything that is done to it. */
const FOREVER_MS = 3_600_000;

export interface Machine {
  readonly host: Host;
  readonly node: NodeRuntime;
  readonly engine: Engine;
  slowness: number;
}

/** What a run came to. */
export interface Outcome {
  readonly losses: readonly number[];
  readonly validation: number;
  /** All that training has changed. */
  readonly state: Readonly<Record<string, Tensor>>;
}

export class TrainingWorld {
  readonly clock = new VirtualClock(START);
  readonly random: Random;
  readonly trace: Trace;
  readonly told: RunRecovery[] = [];
  /** Steps whose results were given, in order. */
  readonly stepped: number[] = [];
  /** Of all phases so far. */
  readonly counts = new Map<Phase, number>();
  /** Whether there was a recovery point when the first fault struck; undefined before. */
  wasKept: boolean | undefined;
  /** Devices that faults may have taken away from the run. */
  readonly struck = new Set<number>();
  /** Devices that were known to be gone one step before the end. */
  private departed: string[] = [];
  readonly machines: Machine[] = [];
  readonly shape: Shape;
  readonly copies: number;
  private readonly network: SimNetwork;
  private readonly coordinator: { host: Host; node: NodeRuntime };
  private readonly seed: number;
  /** What is still to happen; the first is armed. */
  private faults: Fault[] = [];
  private waited = new Map<Phase, number>();
  private scheduler: Ref<Scheduler> | undefined;

  constructor(shape: Shape, seed: number, copies: number, spare: number, verbose = false) {
    this.shape = shape;
    this.seed = seed;
    this.copies = copies;
    this.random = seededRandom(seed);
    this.trace = new Trace(() => this.clock.now() - START, verbose);
    const { random } = this;
    const settings = {
      maxDelayMs: pick(random, [1, 2, 10, 60]),
      jitterMs: pick(random, [0, 0, 2, 10]),
      capacityBytes: pick(random, [20_000, 1_000_000]),
      chunkBytes: pick(random, [2000, 65_536]),
      split: pick(random, [0, 0, 0.2]),
    };
    this.network = new SimNetwork(this.clock, settings, seededRandom(seed + 0.5 * 2 ** 32), this.trace);
    this.coordinator = this.boot("coordinator");
    const count = shape.plan.devices.length + spare;
    for (let i = 0; i < count; i++) {
      const { host, node } = this.boot(`device-${i}`);
      const kernelMs = pick(random, [0.1, 1, 5]);
      const machine: Machine = {
        ...{ host, node, slowness: 1 },
        engine: simulatedEngine(
          host,
          () => machine.slowness * kernelMs * (0.5 + random.next()),
          random.next() < 0.3,
        ),
      };
      this.machines.push(machine);
      onPhase(node, (phase) => this.came(phase, i));
    }
  }

  private boot(name: string): { host: Host; node: NodeRuntime } {
    const host = new Host(name, this.clock);
    const node = new NodeRuntime({
      ...{ name, id: name, clock: host, heartbeat: HEARTBEAT, actors: { Device, Stage } },
      transports: [this.network.transport(host)],
      random: seededRandom(this.seed * 31 + this.random.integer(2 ** 30)),
      log: ({ message, error }) => {
        if (host.alive) this.trace.note("log", name, message, error?.stack ?? "");
      },
    });
    return { host, node };
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

  /** Trains as `train` does; `faults` begin when the first step does. */
  async train(faults: readonly Fault[]): Promise<Outcome> {
    const { node } = this.coordinator;
    const { shape, copies } = this;
    const { plan, model, microBatches, steps, validateEvery, saveEvery } = shape;
    const devices: Ref<Device>[] = [];
    for (const [i, machine] of this.machines.entries()) {
      const name = `device-${i}`;
      await machine.node.spawn(Device, [name, async () => machine.engine, { host: name }], { name });
      await machine.node.listen(`sim://${name}`);
      await node.connect(`sim://${name}`);
      devices.push((await node.lookup<Device>(name, name))!);
    }
    const initial: Record<string, Tensor> = {};
    for (const { name } of heldInputs(model)) initial[name] = await model.initial(name, SEED);
    let saved = { step: -1, values: initial };
    const data = await node.spawn(DataSource, [shape.feed]);
    this.scheduler = await node.spawn(Scheduler, [
      devices,
      data,
      {
        ...{ model, seed: SEED, microBatches, plan, strategy: "pipeline", schedule: plan.schedule },
        ...{ recompute: false, optimizer: { ...DEFAULT_ADAMW, learningRate: 0.01, warmup: 1, steps } },
        recovery: {
          copies,
          restart: async () => saved,
          fixed: async (names) => Object.fromEntries(names.map((name) => [name, initial[name]!])),
          tell: (recovery) => {
            this.trace.note("recovered", JSON.stringify({ ...recovery, plan: 0 }));
            this.told.push(recovery);
          },
        },
      },
    ]);
    const { ask } = this.scheduler;
    await ask.plan();
    await ask.deploy(initial);
    this.faults = [...faults];
    this.arm();
    const losses: number[] = [];
    for (let step = 0; step < steps; step++) {
      const done = step + 1;
      const [validates, saves] = [validateEvery, saveEvery].map((every) => done % every === 0);
      const result = await ask.step(step, steps - 1, !validates && !saves);
      this.trace.note("step", step, result.loss);
      this.stepped.push(result.step);
      losses.push(result.loss);
      if (done === steps) break;
      if (done === steps - 1) this.departed = this.gone();
      if (validates) await ask.evaluate(done);
      if (saves) saved = { step, values: { ...initial, ...copied(await ask.state()) } };
    }
    const validation = await ask.evaluate(steps);
    return { losses, validation, state: copied(await ask.state()) };
  }

  /** Devices whose loss should have been told, and was not. */
  untold(): string[] {
    const told = new Set(this.told.flatMap(({ lost }) => lost));
    return this.departed.filter((name) => !told.has(name));
  }

  /** Of those that had something to do in it from the beginning. */
  private gone(): string[] {
    const here = new Set(this.coordinator.node.peers().map(({ name }) => name));
    return this.machines
      .slice(0, this.shape.plan.devices.length)
      .flatMap(({ host }) => (host.alive || here.has(host.name) ? [] : [host.name]));
  }

  /** Ends the run; what devices that are alive still hold of it, in words. */
  async end(): Promise<string[]> {
    const { node } = this.coordinator;
    this.faults = [];
    if (this.scheduler) await this.run(node.stop(this.scheduler), "the end of the scheduler");
    this.network.heal();
    for (const { host } of this.machines) if (host.isFrozen) host.thaw();
    await this.clock.advance(PATIENCE_MS, () => this.held().length === 0);
    const held = this.held();
    const nodes = [this.coordinator, ...this.machines].filter(({ host }) => host.alive);
    await this.run(Promise.all(nodes.map((each) => each.node.close())), "the end of the nodes");
    return held;
  }

  private held(): string[] {
    return this.machines.flatMap(({ host, node, engine }) => {
      if (!host.alive) return [];
      const { tensors, executables, bindings } = engine.usage();
      const left = Object.entries({ tensors, executables, bindings, actors: node.status().actors - 1 });
      return left.flatMap(([what, count]) =>
        count === 0 ? [] : [`${host.name} still has ${count} ${what}`],
      );
    });
  }

  private came(phase: Phase, device: number): void {
    this.counts.set(phase, (this.counts.get(phase) ?? 0) + 1);
    const when = this.faults[0]?.when;
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

  private strike(fault: Fault, there: number): void {
    this.wasKept ??= this.counts.has("Stage.forgetBefore");
    this.harm(fault.who === "there" ? there : fault.who, fault.harm);
    this.arm();
  }

  private harm(device: number, harm: Harm): void {
    const machine = this.machines[device]!;
    const { host } = machine;
    if (!host.alive) return;
    this.trace.note("fault", host.name, JSON.stringify(harm));
    if (takesAway(harm)) this.struck.add(device);
    switch (harm.kind) {
      case "kill":
      case "vanish":
        host.die();
        this.network.vanish(host, harm.kind === "vanish");
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
    return device === null ? this.coordinator.host : this.machines[device]!.host;
  }
}

/** Whether a device may be taken for gone by the coordinator. */
function takesAway(harm: Harm): boolean {
  if (harm.kind === "kill" || harm.kind === "vanish") return true;
  if (harm.kind === "cut") return harm.other === null;
  if (harm.kind === "block" && harm.other !== null) return false;
  return "ms" in harm && harm.ms >= HEARTBEAT.patienceMs / 2;
}

function copied(values: Readonly<Record<string, Tensor>>): Record<string, Tensor> {
  return Object.fromEntries(
    Object.entries(values).map(([name, tensor]) => [
      name,
      new Tensor(tensor.dtype, tensor.shape, tensor.bytes.slice()),
    ]),
  );
}
