/** Troupe's actors on one thread. */

import { Actor, NodeRuntime, type Ref } from "../../runtime/index.ts";
import { contend, each, heapBytes } from "./contender.ts";
import { ACTORS, ASKS, BURST, BURSTS, SPAWNS } from "./sizes.ts";

class Counter extends Actor {
  #count = 0;
  add(by: number): void {
    this.#count += by;
  }
  count(): number {
    return this.#count;
  }
}

const node = new NodeRuntime({ name: "bench" });

await contend({
  tell: async () => {
    const counter = await node.spawn(Counter, []);
    const nanoseconds = await each(BURST * BURSTS, async () => {
      for (let burst = 0; burst < BURSTS; burst++) {
        for (let i = 0; i < BURST; i++) counter.tell.add(1);
        if ((await counter.ask.count()) !== BURST * (burst + 1)) throw new Error("messages are missing");
      }
    });
    await node.stop(counter);
    return [nanoseconds];
  },
  ask: async () => {
    const counter = await node.spawn(Counter, []);
    const times: number[] = [];
    for (let i = 0; i < ASKS; i++) {
      const begun = Bun.nanoseconds();
      if ((await counter.ask.count()) !== 0) throw new Error("a wrong answer");
      times.push(Bun.nanoseconds() - begun);
    }
    await node.stop(counter);
    return times;
  },
  spawn: async () => [
    await each(SPAWNS, async () => {
      for (let i = 0; i < SPAWNS; i++) await node.stop(await node.spawn(Counter, []));
    }),
  ],
  memory: async () => {
    let refs: Ref<Counter>[] = [];
    const bytes = await heapBytes(ACTORS, async () => {
      for (let i = 0; i < ACTORS; i++) refs.push(await node.spawn(Counter, []));
      return refs;
    });
    for (const ref of refs) await node.stop(ref);
    refs = [];
    return [bytes];
  },
});
