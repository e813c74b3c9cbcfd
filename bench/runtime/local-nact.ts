/** nact's actors on one thread. */

import { contend, each, heapBytes } from "./contender.ts";
import { ACTORS, ASKS, BURST, BURSTS, SPAWNS } from "./sizes.ts";

// The bench installs it beside its manifest; to the project it is no dependency and has no types.
const NACT: string = "../rivals/actors/node_modules/nact";
const { start, spawn, dispatch, query, stop } = await import(NACT);

const system = start();
type Message = { readonly add: number } | { readonly reply: unknown };

// Names of our own: those it makes up are not always unique.
let made = 0;
const counter = () =>
  spawn(
    system,
    (count = 0, message: Message) => {
      if ("add" in message) return count + message.add;
      dispatch(message.reply, count);
      return count;
    },
    `counter-${made++}`,
  );
const count = (actor: unknown) => query(actor, (reply: unknown) => ({ reply }), 60_000);

await contend({
  tell: async () => {
    const actor = counter();
    const nanoseconds = await each(BURST * BURSTS, async () => {
      for (let burst = 0; burst < BURSTS; burst++) {
        for (let i = 0; i < BURST; i++) dispatch(actor, { add: 1 });
        if ((await count(actor)) !== BURST * (burst + 1)) throw new Error("messages are missing");
      }
    });
    stop(actor);
    return [nanoseconds];
  },
  ask: async () => {
    const actor = counter();
    dispatch(actor, { add: 0 });
    const times: number[] = [];
    for (let i = 0; i < ASKS; i++) {
      const begun = Bun.nanoseconds();
      if ((await count(actor)) !== 0) throw new Error("a wrong answer");
      times.push(Bun.nanoseconds() - begun);
    }
    stop(actor);
    return times;
  },
  spawn: async () => [
    await each(SPAWNS, async () => {
      for (let i = 0; i < SPAWNS; i++) stop(counter());
    }),
  ],
  memory: async () => {
    let refs: unknown[] = [];
    const bytes = await heapBytes(ACTORS, async () => {
      for (let i = 0; i < ACTORS; i++) refs.push(counter());
      return refs;
    });
    for (const ref of refs) stop(ref);
    refs = [];
    return [bytes];
  },
});
