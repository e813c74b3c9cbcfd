/**
 * The machines of a simulated world: switched on and off, harmed, and connected by one simulated network on one virtual
 * clock. What runs on them is the world's.
 */

import { type Slowed, slowed } from "../../../../actors/chaos/slowed.ts";
import { Stage } from "../../../../actors/stage.ts";
import { VirtualClock } from "../../../../runtime/clock.ts";
import { NodeRuntime } from "../../../../runtime/node.ts";
import { type Random, seededRandom } from "../../../../runtime/random.ts";
import { Host } from "../../../sim/host.ts";
import { SimNetwork } from "../../../sim/network.ts";
import { Trace } from "../../../sim/trace.ts";
import { SimulatedDevice } from "./device.ts";
import { simulatedEngine } from "./engine.ts";
import type { Harm } from "./faults.ts";
import { onPhase, type Phase } from "./phases.ts";
import { pick } from "./shapes.ts";

const START = 1_000_000;
const HEARTBEAT = { intervalMs: 500, patienceMs: 2500 };
/** How long copies wait for another coordinator. */
export const GRACE_MS = 20_000;

export interface Machine {
  readonly name: string;
  readonly host: Host;
  readonly node: NodeRuntime;
  readonly engine: Slowed;
  slowness: number;
}

export interface ClusterOptions {
  readonly seed: number;
  /** Of each device. */
  readonly memoryBytes: number;
  readonly verbose: boolean;
}

export class Cluster {
  readonly clock = new VirtualClock(START);
  readonly random: Random;
  readonly trace: Trace;
  readonly network: SimNetwork;
  /** By number; one that was switched on again is in the place of the one that was off. */
  readonly machines: Machine[] = [];
  /** Names of devices that something has happened to that may have taken them away from the run. */
  readonly struck = new Set<string>();
  /** Of each device. */
  private readonly memoryBytes: number;
  private readonly seed: number;
  private readonly came: (phase: Phase, device: number) => void;

  /** @param came told of what actors on devices come to. */
  constructor({ seed, memoryBytes, verbose }: ClusterOptions, came: (phase: Phase, device: number) => void) {
    this.seed = seed;
    this.memoryBytes = memoryBytes;
    this.came = came;
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
  }

  /** Machine number `i` is switched on, with nothing on it. */
  add(i = this.machines.length): Machine {
    const { random } = this;
    const name = `device-${i}`;
    const { host, node } = this.boot(name);
    const kernelMs = pick(random, [0.1, 1, 5]);
    const pace = () => machine.slowness * kernelMs * (0.5 + random.next());
    const machine: Machine = {
      ...{ name, host, node, slowness: 1 },
      engine: slowed(simulatedEngine(host, pace, random.next() < 0.3), host),
    };
    this.machines[i] = machine;
    onPhase(node, (phase) => this.came(phase, i));
    return machine;
  }

  /** Its device is there. */
  async start({ name, node, engine }: Machine): Promise<void> {
    const claims = { host: name, memoryBytes: this.memoryBytes };
    await node.spawn(SimulatedDevice, [name, async () => engine, claims, undefined, GRACE_MS], { name });
    await node.listen(`sim://${name}`);
  }

  /** A machine with a node on it. */
  boot(name: string): { host: Host; node: NodeRuntime } {
    const host = new Host(name, this.clock);
    const node = new NodeRuntime({
      ...{ name, id: name, clock: host, heartbeat: HEARTBEAT, actors: { Device: SimulatedDevice, Stage } },
      transports: [this.network.transport(host)],
      random: seededRandom(this.seed * 31 + this.random.integer(2 ** 30)),
      log: ({ message, error }) => {
        if (host.alive) this.trace.note("log", name, message, error?.stack ?? "");
      },
    });
    return { host, node };
  }

  /** Milliseconds since the beginning. */
  get now(): number {
    return this.clock.now() - START;
  }

  /** Machines that would answer. */
  living(): Machine[] {
    return this.machines.filter(({ host }) => host.alive && !host.isFrozen);
  }

  /** @param silent nobody is told by it. */
  switchOff({ host }: Machine, silent: boolean): void {
    if (!host.alive) return;
    host.die();
    this.network.vanish(host, silent);
  }

  /** @param coordinator where that is now. */
  harm(machine: Machine, harm: Harm, coordinator: Host): void {
    const { host } = machine;
    if (!host.alive) return;
    const hostOf = (device: number | null) => (device === null ? coordinator : this.machines[device]!.host);
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
        if (harm.ms === null) machine.slowness = harm.times;
        else {
          machine.engine.factor = harm.times;
          this.clock.setTimer(() => {
            machine.engine.factor = 1;
          }, harm.ms);
        }
        break;
      case "cut":
        for (const pipe of [...this.network.pipes]) {
          if (pipe.from === host && pipe.to === hostOf(harm.other)) this.network.cut(pipe);
        }
        break;
      case "block": {
        const other = hostOf(harm.other).name;
        const block = (blocked: boolean) => {
          this.network.block(host.name, other, blocked);
          this.network.block(other, host.name, blocked);
        };
        block(true);
        this.clock.setTimer(() => block(false), harm.ms);
      }
    }
  }

  /** What devices that are on hold of a run, in words. */
  held(): string[] {
    return this.machines.flatMap(({ name, host, node, engine }) => {
      if (!host.alive) return [];
      const { tensors, executables, bindings } = engine.usage();
      return described(name, { tensors, executables, bindings, actors: node.status().actors - 1 });
    });
  }
}

/** Whether a device may be taken for gone by the coordinator. */
function takesAway(harm: Harm): boolean {
  if (harm.kind === "kill" || harm.kind === "vanish") return true;
  if (harm.kind === "cut") return harm.other === null;
  if (harm.kind === "block" && harm.other !== null) return false;
  return (harm.kind === "freeze" || harm.kind === "block") && isLong(harm);
}

function isLong({ ms }: { readonly ms: number }): boolean {
  return ms >= HEARTBEAT.patienceMs / 2;
}

/** Those counts that are not none, in words. */
export function described(name: string, counts: Readonly<{ [what: string]: number }>): string[] {
  return Object.entries(counts).flatMap(([what, count]) =>
    count === 0 ? [] : [`${name} still has ${count} ${what}`],
  );
}
