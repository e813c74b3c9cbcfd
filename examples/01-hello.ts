// An actor is a class; its public methods are its messages. `tell` sends and forgets.

import { Actor, NodeRuntime } from "../runtime/index.ts";

class Greeter extends Actor {
  hello(whom: string): void {
    console.log(`hello, ${whom}`);
  }
}

const node = new NodeRuntime({ name: "desk" });
const greeter = await node.spawn(Greeter, []);

greeter.tell.hello("world");
greeter.tell.hello("troupe"); // messages of one sender are handled in order, one at a time

await node.stop(greeter, { drain: true }); // after what it has been told
await node.close();
