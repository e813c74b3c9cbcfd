// An actor is a class; its public async methods are its messages.

import { Actor, NodeRuntime } from "../runtime/index.ts";

class Counter extends Actor {
  #count = 0;

  async add(amount: number): Promise<number> {
    this.#count += amount;
    return this.#count;
  }
}

const node = new NodeRuntime({ name: "desk" });
const counter = await node.spawn(Counter, []);

counter.tell.add(40); // sent and forgotten
console.log(await counter.ask.add(2)); // 42: messages of one sender are handled in order

await node.close();
