/** Children that announce themselves, and trees of them: what the tests of supervisors are made of. */

import { Actor } from "../../runtime/actor.ts";
import { type ChildOptions, type ChildSpec, child, type SupervisorSpec } from "../../runtime/child_spec.ts";
import type { NodeRuntime } from "../../runtime/node.ts";
import type { Ref } from "../../runtime/ref.ts";
import { Supervisor } from "../../runtime/supervisor.ts";
import type { World } from "./world.ts";

/** `+id` for a start, `-id` for a stop, in order. */
export const said: string[] = [];
/** Children that refuse to start, by id. */
export const refusing = new Set<string>();
const once = new Set<string>();

/** The child refuses its next start and no other. */
export function refuseOnce(id: string): void {
  once.add(id);
}

/** Children whose start waits until its gate is opened, by id. */
export const gates = new Map<string, Promise<void>>();

/** Before each test. */
export function silence(): void {
  said.length = 0;
  refusing.clear();
  once.clear();
  gates.clear();
}

export class Announcer extends Actor {
  protected readonly id: string;
  constructor(id: string) {
    super();
    this.id = id;
  }
  override async onStart() {
    await gates.get(this.id);
    if (refusing.has(this.id) || once.delete(this.id)) throw new Error(`${this.id} refuses`);
    said.push(`+${this.id}`);
  }
  override async onStop() {
    said.push(`-${this.id}`);
  }
  async crash() {
    throw new Error(`${this.id} is broken`);
  }
  async leave() {
    this.context.stop();
  }
  async hello(n: number) {
    return `${this.id} ${n}`;
  }
}

export const announcer = (id: string, options: ChildOptions = {}) =>
  child(Announcer, [id], { id, ...options });
export const abc = (options: Record<string, ChildOptions> = {}) =>
  ["a", "b", "c"].map((id) => announcer(id, options[id]));

/** A supervisor that allows three restarts of each child within five seconds, unless told otherwise. */
export async function tree(
  node: NodeRuntime,
  children: readonly ChildSpec[],
  spec: Partial<SupervisorSpec> = {},
) {
  const options: SupervisorSpec = {
    strategy: "one_for_one",
    intensity: 3,
    periodMs: 5000,
    children,
    ...spec,
  };
  const supervisor = await node.spawn(Supervisor, [options], { name: "top" });
  const refs: Record<string, Ref<Announcer>> = {};
  for (const { id, ref } of await supervisor.ask.children()) refs[id] = ref!;
  return { supervisor, refs };
}

/** What is said from now until nothing happens any more. */
export async function heard(world: World, act: () => unknown): Promise<string[]> {
  said.length = 0;
  await act();
  await world.clock.settle();
  await world.clock.settle();
  return [...said];
}
