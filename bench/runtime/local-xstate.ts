/** XState's actors on one thread: one made from a transition function, the leanest it has. */

import { contend, each, heapBytes } from "./contender.ts";
import { ACTORS, ASKS, BURST, BURSTS, SPAWNS } from "./sizes.ts";

// The bench installs it beside its manifest; to the project it is no dependency and has no types.
const XSTATE: string = "../rivals/actors/node_modules/xstate";
const { createActor, fromTransition } = await import(XSTATE);

type Event =
  | { readonly type: "add"; readonly by: number }
  | { readonly type: "count"; reply(count: number): void };

const logic = fromTransition(
  (state: { count: number }, event: Event) => {
    if (event.type === "add") return { count: state.count + event.by };
    if (event.type === "count") event.reply(state.count);
    return state;
  },
  { count: 0 },
);

const counter = () => createActor(logic).start();
const count = (actor: ReturnType<typeof counter>) =>
  new Promise<number>((reply) => actor.send({ type: "count", reply }));

await contend({
  tell: async () => {
    const actor = counter();
    const nanoseconds = await each(BURST * BURSTS, async () => {
      for (let burst = 0; burst < BURSTS; burst++) {
        for (let i = 0; i < BURST; i++) actor.send({ type: "add", by: 1 });
        if ((await count(actor)) !== BURST * (burst + 1)) throw new Error("messages are missing");
      }
    });
    actor.stop();
    return [nanoseconds];
  },
  ask: async () => {
    const actor = counter();
    const times: number[] = [];
    for (let i = 0; i < ASKS; i++) {
      const begun = Bun.nanoseconds();
      if ((await count(actor)) !== 0) throw new Error("a wrong answer");
      times.push(Bun.nanoseconds() - begun);
    }
    actor.stop();
    return times;
  },
  spawn: async () => [
    await each(SPAWNS, async () => {
      for (let i = 0; i < SPAWNS; i++) counter().stop();
    }),
  ],
  memory: async () => {
    let refs: ReturnType<typeof counter>[] = [];
    const bytes = await heapBytes(ACTORS, async () => {
      for (let i = 0; i < ACTORS; i++) refs.push(counter());
      return refs;
    });
    for (const ref of refs) ref.stop();
    refs = [];
    return [bytes];
  },
});
