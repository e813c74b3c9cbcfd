/** What happens in a world, drawn from its seed: work on its nodes, and faults, most of them at bad moments. */

import type { ChildSpec, SupervisorSpec } from "../../runtime/child_spec.ts";
import type { Ref } from "../../runtime/ref.ts";
import { Worker } from "./actors.ts";
import { type Member, pick, World, type WorldOptions } from "./world.ts";

export interface Outcome {
  readonly seed: number;
  readonly breaches: readonly string[];
  /** Hash of all events. */
  readonly digest: string;
  readonly lines: readonly string[];
}

const ASK_TIMEOUT_MS = 2500;
const ACTS = [
  "plain",
  "plain",
  "plain",
  "slow",
  "crash",
  "leave",
  "relay",
  "consult",
  "watch",
  "share",
  "spawn",
];
/** Acts that concern somebody else. */
const ON_OTHERS = ["relay", "consult", "watch", "link", "share"];
const WORK = ["tell", "tell", "tell", "ask", "ask", "ask", "spawn", "watch", "end"] as const;
const STRATEGIES: SupervisorSpec["strategy"][] = ["one_for_one", "one_for_all", "rest_for_one"];
const RESTARTS: ChildSpec["restart"][] = ["permanent", "permanent", "permanent", "transient", "temporary"];

/** Lives a world from its beginning to its reckoning. @param breaking spoils it first, to see that it is noticed. */
export async function live(
  seed: number,
  options: WorldOptions = {},
  breaking?: (world: World) => void,
): Promise<Outcome> {
  const world = new World(seed, options);
  breaking?.(world);
  const { random, clock } = world;
  // Some begin unconnected: nodes find each other in the middle of everything.
  if (world.isSearched || random.next() < 0.6) await world.connect();
  else for (const member of world.members) meet(world, member);
  const before = world.inventory();
  const duration = pick(random, [200, 2000, 2000, 10_000]);
  plan(world, duration);
  await clock.advance(duration);
  const breaches = await world.reckon(before);
  return { seed, breaches, digest: world.trace.digest, lines: world.trace.lines ?? [] };
}

function plan(world: World, duration: number): void {
  const { random, clock, members } = world;
  for (const member of members) {
    clock.setTimer(() => spawn(world, member), 0);
    if (random.next() < 0.7) clock.setTimer(() => tree(world, member), 0);
  }
  // Whatever goes wrong is most interesting close to something else.
  let moment = 0;
  const when = () => {
    if (random.next() < 0.6) moment = random.integer(duration);
    else moment = Math.min(duration, moment + random.integer(4));
    return moment;
  };
  const works = 5 + random.integer(25);
  for (let i = 0; i < works; i++) clock.setTimer(() => work(world, pick(random, members)), when());
  const faults = pick(random, [0, 1, 1, 2, 3, 5]);
  for (let i = 0; i < faults; i++)
    clock.setTimer(() => fault(world, pick(random, members), duration), when());
}

/** Everybody connects to everybody at once. */
function meet(world: World, member: Member): void {
  for (const { name } of world.members) {
    if (name === member.name) continue;
    world.attempt(member, "connecting", () => member.node.connect(`sim://${name}`));
  }
}

// --- work --------------------------------------------------------------------------------------------------------

function work(world: World, member: Member): void {
  const { random } = world;
  const kind = pick(random, WORK);
  const ref = anyRef(world, member);
  if (kind === "spawn") spawn(world, member);
  else if (!ref) return;
  else if (kind === "watch") watch(world, member, ref);
  else if (kind === "end") end(world, member, ref);
  else burst(world, member, ref, kind);
}

/** Letters in a row: their order is what is looked at. */
function burst(world: World, member: Member, ref: Ref<any>, kind: "tell" | "ask"): void {
  const { random, ledger } = world;
  const count = 1 + random.integer(6);
  for (let i = 0; i < count; i++) {
    const act = random.next() < 0.1 && kind === "ask" ? "refuse" : pick(random, ACTS);
    const size = random.next() < 0.15 ? random.integer(5000) : 0;
    const other = ON_OTHERS.includes(act) ? anyRef(world, member) : undefined;
    const limited = kind === "ask" && random.next() < 0.4;
    const letter = {
      act: other || !ON_OTHERS.includes(act) ? act : "plain",
      ...(act === "slow" ? { ms: random.integer(300) } : {}),
      ...(other ? { ref: other, next: pick(random, ["plain", "plain", "slow", "crash"]) } : {}),
      ...(size > 0 ? { body: new Uint8Array(size) } : {}),
    };
    const to = limited ? ref.with({ timeoutMs: random.integer(ASK_TIMEOUT_MS) }) : ref;
    member.host.enter(() => {
      const { host } = member;
      if (kind === "tell") ledger.send(host, ref, letter, (full) => ref.tell.take(full));
      else void ledger.ask(host, ref, letter, limited, (full) => to.ask.take(full));
    });
  }
}

function spawn(world: World, member: Member): void {
  const on = pick(world.random, world.members);
  const { host, node } = member;
  world.attempt(member, "a spawn", async () => {
    const ref = on === member ? await node.spawn(Worker, []) : await node.spawnOn(on.name, "Worker", []);
    if (host.alive && member.host === host) member.refs.push(ref as Ref<any>);
  });
}

function tree(world: World, member: Member): void {
  const { random } = world;
  const restarts = Array.from({ length: 1 + random.integer(4) }, () => pick(random, RESTARTS));
  const uniform = random.next() < 0.6;
  world.startTree(member, pick(random, STRATEGIES), uniform ? restarts.map(() => "permanent") : restarts);
}

function watch(world: World, member: Member, ref: Ref<any>): void {
  const { node, host } = member;
  host.enter(() =>
    world.ledger.watch(host, ref, false, (fired) => node.monitor(ref, ({ reason }) => fired(reason.code))),
  );
}

/** Somebody else ends an actor. */
function end(world: World, member: Member, ref: Ref<any>): void {
  const { node } = member;
  const kill = world.random.next() < 0.5;
  for (const each of world.trees) {
    if (each.supervisor && ref.key === each.supervisor.key) each.ended = true;
    else if (ref.address.className === "Child") each.failures++;
  }
  world.trace.note(kill ? "kill" : "stop", member.name, ref.key);
  world.attempt(member, "an end", () => (kill ? node.kill(ref) : node.stop(ref)));
}

function anyRef(world: World, member: Member): Ref<any> | undefined {
  return member.refs.length > 0 ? pick(world.random, member.refs) : undefined;
}

// --- faults ------------------------------------------------------------------------------------------------------

function fault(world: World, member: Member, duration: number): void {
  const { random, clock, network, members } = world;
  const other = pick(random, members);
  const later = (work: () => void) => clock.setTimer(work, random.integer(duration));
  const kinds = ["cut", "cut", "cut", "partition", "one-way", "crash", "crash", "freeze", "leave"] as const;
  const kind = pick(random, kinds);
  world.trace.note("fault", kind, member.name, other.name);
  switch (kind) {
    case "cut": {
      const pipes = [...network.pipes];
      if (pipes.length > 0) network.cut(pick(random, pipes));
      return;
    }
    case "partition":
    case "one-way": {
      const block = (blocked: boolean) => {
        network.block(member.name, other.name, blocked);
        if (kind === "partition") network.block(other.name, member.name, blocked);
      };
      block(true);
      later(() => block(false));
      return;
    }
    case "crash": {
      if (!member.host.alive) return;
      world.crash(member, random.next() < 0.5);
      later(() => world.restart(member));
      return;
    }
    case "freeze": {
      const { host } = member;
      if (!host.alive) return;
      host.freeze();
      later(() => host.thaw());
      return;
    }
    default:
      world.attempt(member, "leaving", async () => {
        await world.leave(member);
        later(() => world.restart(member));
      });
  }
}
