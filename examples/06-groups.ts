// A group is a named set of actors that all connected nodes see. Whoever ends has left it, and so have the members
// of a node that is lost.

import { Actor, NodeRuntime, tcp } from "../runtime/index.ts";

class Worker extends Actor {
  override onStart(): void {
    this.context.node.groups.join("workers", this.context.self);
  }
  async where(): Promise<string> {
    return this.context.node.name;
  }
}

const board = new NodeRuntime({ name: "board", transports: [tcp()] });
const desk = new NodeRuntime({ name: "desk", transports: [tcp()] });
await board.spawn(Worker, []);
await board.spawn(Worker, []);
await desk.spawn(Worker, []);

/** Resolves when the desk sees so many workers. */
async function until(count: number): Promise<void> {
  const { promise, resolve } = Promise.withResolvers<void>();
  const look = () => desk.groups.members("workers").length === count && resolve();
  const end = desk.groups.subscribe(look);
  look();
  await promise;
  end();
}

await desk.connect(await board.listen("tcp://127.0.0.1:0"));
await until(3);
const workers = desk.groups.members<Worker>("workers");
console.log(`${workers.length} workers`); // 3 workers
console.log((await Promise.all(workers.map((worker) => worker.ask.where()))).sort().reverse().join(", ")); // desk, board, board

await board.close();
await until(1);
console.log(`${desk.groups.members("workers").length} worker`); // 1 worker

await desk.close();
