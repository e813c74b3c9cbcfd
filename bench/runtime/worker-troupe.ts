/** Troupe between two threads: a tensor that is given away, there and back; a small ask. */

import { Tensor } from "../../protocols/index.ts";
import { Actor, NodeRuntime, startWorkerNode, WorkerNetwork, worker } from "../../runtime/index.ts";
import { contend } from "./contender.ts";
import { HOPS, ROUND_TRIPS, WORKER_BYTES } from "./sizes.ts";
import type { Catcher, Thrower } from "./worker-actors.ts";

let back: (tensor: Tensor) => void = () => undefined;

class Hand extends Actor implements Catcher {
  caught(tensor: Tensor): void {
    back(tensor);
  }
}

const network = new WorkerNetwork();
const node = new NodeRuntime({ name: "main", transports: [worker(network)] });
const thread = await startWorkerNode(network, new URL("./worker-actors.ts", import.meta.url));
const { id } = await node.connect(thread.address);
const thrower = await node.spawnOn<Thrower>(id, "Thrower", []);
await thrower.ask.to(await node.spawn(Hand, []));

let tensor = new Tensor("u8", [WORKER_BYTES], new Uint8Array(WORKER_BYTES).fill(3));

await contend({
  hop: async () => {
    const times: number[] = [];
    for (let i = 0; i < HOPS; i++) {
      const begun = Bun.nanoseconds();
      const returned = new Promise<Tensor>((resolve) => {
        back = resolve;
      });
      thrower.tell.thrown(tensor);
      tensor = await returned;
      times.push((Bun.nanoseconds() - begun) / 2);
      if (tensor.bytes[WORKER_BYTES - 1] !== 3) throw new Error("a wrong tensor");
    }
    return times;
  },
  ask: async () => {
    const times: number[] = [];
    for (let i = 0; i < ROUND_TRIPS; i++) {
      const begun = Bun.nanoseconds();
      if ((await thrower.ask.answer(i)) !== i) throw new Error("a wrong answer");
      times.push(Bun.nanoseconds() - begun);
    }
    return times;
  },
});
await thread.close();
await node.close();
