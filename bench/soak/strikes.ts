/** Brings faults over the devices and the coordinator of a soak, and brings back what they took away. */

import type { Random } from "../../runtime/index.ts";
import { timesOf } from "../../runtime/times.ts";
import { type Drawn, draw, FAULT_KINDS, type FaultKind } from "./faults.ts";
import type { FleetNode } from "./fleet.ts";
import type { Leader } from "./leader.ts";

export interface StrikesOptions {
  readonly random: Random;
  readonly nodes: readonly FleetNode[];
  readonly leader: Leader;
  readonly patienceMs: number;
  /** Whether no more faults are to come. */
  isOver(): boolean;
  /** Whether the coordinator may be killed now. */
  mayBehead(): boolean;
  /** Whether the present plan uses a device. */
  works(name: string): boolean;
  /** Starts the coordinator again, with the run that it led. */
  lead(): Promise<void>;
  note(line: string): void;
  fail(what: string): void;
}

/** How long one is stopped or cut off at the least, in patiences. */
const SILENCES = 1.5;
/** Of a busy machine, beside the longest lease that whoever hangs may have. */
const BUSY_MS = 20_000;
/** How long one is slow. */
const SLOW_MS = 8000;
/** Whoever does what the run needs comes to every point within. */
const POINT_MS = 10_000;
/** Within, what is called off does not come any more. */
const CALLED_OFF_MS = 5000;
/** A coordinator that is lost together with a device is back before it. */
const LATER_MS = 3000;
const OF_TWO: readonly FaultKind[] = ["kill two", "kill in recovery"];
const OF_ANY: readonly FaultKind[] = ["stop", "cut", "slow"];
const OF_NONE: readonly FaultKind[] = ["kill coordinator", "stop coordinator"];
const BEHEADING: readonly FaultKind[] = ["kill coordinator", "kill coordinator and device"];

export class Strikes {
  /** Processes that were killed. */
  readonly kills = { device: 0, coordinator: 0 };
  readonly given: FaultKind[] = [];
  private readonly options: StrikesOptions;
  /** Names of devices that are about to be given up, by what was done to them. */
  private readonly foreseen = new Set<string>();
  /** Something is being done to them. */
  private readonly troubled = new Set<FleetNode>();
  private readonly errands = new Set<Promise<void>>();
  private ended = false;

  constructor(options: StrikesOptions) {
    this.options = options;
  }

  get killed(): number {
    return this.kills.device + this.kills.coordinator;
  }

  /** A device was given up. @returns whether that was to be expected. */
  foresaw(name: string): boolean {
    return this.foreseen.delete(name);
  }

  /** Does something to somebody, in a moment, whatever they are doing then. */
  strike(): void {
    const { nodes, random, leader, isOver, mayBehead, note } = this.options;
    const here = nodes.filter((node) => node.isHere && node.isUp && !this.troubled.has(node));
    const mortals = here.filter((node) => !node.steady);
    const amongWhom = (kind: FaultKind) => (OF_ANY.includes(kind) ? here : mortals);
    const allowed = FAULT_KINDS.filter((kind) => {
      if (BEHEADING.includes(kind) && !(mayBehead() && leader.isAlive)) return false;
      if (OF_NONE.includes(kind)) return leader.isAlive;
      return amongWhom(kind).length >= (OF_TWO.includes(kind) ? 2 : 1);
    });
    if (allowed.length === 0) return;
    const drawn = draw(random, allowed);
    const { kind, which, afterMs } = drawn;
    const first = this.choose(amongWhom(kind), which[0]);
    const others = amongWhom(kind).filter((node) => node !== first);
    const second = this.choose(others, which[1]);
    this.errand(async () => {
      await Bun.sleep(afterMs);
      if (isOver()) return;
      const meant = OF_TWO.includes(kind) ? [first, second] : OF_NONE.includes(kind) ? [] : [first];
      note(
        `${kind} ${meant.map((node) => node!.name).join(" ")} ${kind === "kill at a point" ? drawn.phase : ""}`,
      );
      this.given.push(kind);
      for (const node of meant) this.troubled.add(node!);
      await this.perform(drawn, first, second);
      for (const node of meant) this.troubled.delete(node!);
    });
  }

  /** Kills the coordinator, and nobody starts it. */
  behead(): void {
    this.foreseen.clear();
    this.options.leader.kill();
  }

  /** Resolves when all is back that was taken away, or soon. Nothing comes back after it. */
  async end(patienceMs: number): Promise<void> {
    await Promise.race([Promise.all(this.errands), Bun.sleep(patienceMs)]);
    this.ended = true;
  }

  errand(work: () => Promise<void>): void {
    const done = work().catch((error: Error) => this.options.fail(error.stack ?? error.message));
    this.errands.add(done);
    done.then(() => this.errands.delete(done));
  }

  /** Among those that do something for the run now, if there are any. */
  private choose(from: readonly FleetNode[], which: number): FleetNode | undefined {
    const working = from.filter(({ name }) => this.options.works(name));
    const among = working.length > 0 ? working : from;
    return among[Math.floor(which * among.length)];
  }

  /** Resolves when it is over; what was killed may come back later. */
  private async perform(
    { kind, phase, factor, awayMs }: Drawn,
    first: FleetNode | undefined,
    second: FleetNode | undefined,
  ): Promise<void> {
    const { leader } = this.options;
    switch (kind) {
      case "kill":
        this.kill(first!, awayMs);
        return;
      case "kill two":
        this.kill(first!, awayMs);
        this.kill(second!, awayMs);
        return;
      case "kill at a point":
        this.arm(first!, { action: "kill", phase });
        return this.untilItDies(first!, awayMs);
      case "kill in recovery":
        this.arm(second!, { action: "kill", phase: "recovery" });
        await Bun.sleep(200);
        this.kill(first!, awayMs);
        return this.untilItDies(second!, awayMs);
      case "stop":
        this.foreseen.add(first!.name);
        first!.stop();
        await this.untilGivenUp(first!);
        first!.goOn();
        leader.say(`join ${first!.address}`);
        return;
      case "cut":
        this.foreseen.add(first!.name);
        this.arm(first!, { action: "cut", forMs: SILENCES * this.options.patienceMs });
        await this.untilGivenUp(first!);
        leader.say(`join ${first!.address}`);
        return;
      case "hang":
        this.arm(first!, { action: "hang" });
        return this.untilItEnds(first!, awayMs);
      case "slow":
        this.arm(first!, { action: "slow", factor });
        await Bun.sleep(SLOW_MS);
        leader.say(`arm ${first!.name} []`);
        return;
      case "kill coordinator and device":
        this.kill(first!, awayMs + LATER_MS);
        return this.beheadAndLead(awayMs);
      case "kill coordinator":
        return this.beheadAndLead(awayMs);
      case "stop coordinator":
        for (const node of this.options.nodes) if (node.isHere) this.foreseen.add(node.name);
        return leader.stop(SILENCES * this.options.patienceMs);
    }
  }

  private arm({ name }: FleetNode, fault: Readonly<Record<string, unknown>>): void {
    this.options.leader.say(`arm ${name} ${JSON.stringify([{ ...fault, device: name, step: 0 }])}`);
  }

  private kill(node: FleetNode, awayMs: number): void {
    this.kills.device++;
    if (node.isHere) this.foreseen.add(node.name);
    node.kill();
    this.errand(() => this.bringBack(node, awayMs));
  }

  /** It is armed to kill itself; what does not come to pass is called off. */
  private async untilItDies(node: FleetNode, awayMs: number): Promise<void> {
    this.foreseen.add(node.name);
    const isDead = node.ended.then(() => true);
    if (await Promise.race([isDead, Bun.sleep(POINT_MS).then(() => false)])) {
      this.kill(node, awayMs);
      return;
    }
    this.options.leader.say(`arm ${node.name} []`);
    // It may come to it just before it hears that.
    if (await Promise.race([isDead, Bun.sleep(CALLED_OFF_MS).then(() => false)])) {
      this.kill(node, awayMs);
      return;
    }
    this.options.note(`${node.name} did not come to the point where it was to be killed`);
    this.foreseen.delete(node.name);
  }

  /** It ends itself, unless it did not come to where it hangs before others were lost as well: then that is called off. */
  private async untilItEnds(node: FleetNode, awayMs: number): Promise<void> {
    this.foreseen.add(node.name);
    const isDead = node.ended.then(() => true);
    const { firstLeaseMs } = timesOf(this.options.patienceMs);
    const found = Bun.sleep(firstLeaseMs + BUSY_MS).then(() => false);
    if (await Promise.race([isDead, found])) return this.bringBack(node, awayMs);
    this.options.leader.say(`arm ${node.name} []`);
    if (await Promise.race([isDead, Bun.sleep(CALLED_OFF_MS).then(() => false)]))
      return this.bringBack(node, awayMs);
    this.options.note(`${node.name} did not end itself`);
    this.foreseen.delete(node.name);
  }

  private async beheadAndLead(awayMs: number): Promise<void> {
    // It may have been killed a moment ago.
    if (!this.options.leader.isAlive) return;
    this.kills.coordinator++;
    this.behead();
    await Bun.sleep(awayMs / 2);
    await this.options.lead();
  }

  private async untilGivenUp(node: FleetNode): Promise<void> {
    const { patienceMs, note, fail } = this.options;
    await Bun.sleep(SILENCES * patienceMs);
    const deadline = performance.now() + 2 * patienceMs;
    while (node.isHere && performance.now() < deadline) await Bun.sleep(50);
    if (!node.isHere) return;
    // One that does nothing for the run does not come to where it would be cut off.
    if (node.isUp) note(`${node.name} was not cut off`);
    else fail(`${node.name} is silent and was not given up`);
  }

  private async bringBack(node: FleetNode, awayMs: number): Promise<void> {
    await node.ended;
    await Bun.sleep(awayMs);
    if (this.ended) return;
    await node.start();
    this.options.leader.say(`join ${node.address}`);
  }
}
