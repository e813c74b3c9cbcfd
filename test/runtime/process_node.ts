/** A node in a process of its own, for processes.test.ts: listens, prints its address, lives until it is killed. */

import type { Tensor } from "../../protocols/tensor.ts";
import { Actor } from "../../runtime/actor.ts";
import { NodeRuntime } from "../../runtime/node.ts";
import { tcp } from "../../runtime/transports/tcp.ts";

export class Remote extends Actor {
  async processId() {
    return process.pid;
  }
  async twice(tensor: Tensor) {
    const data = tensor.f32();
    for (let i = 0; i < data.length; i++) data[i]! *= 2;
    return tensor;
  }
  async never() {
    await new Promise(() => {});
  }
}

if (import.meta.main) {
  const node = new NodeRuntime({ name: "child", actors: { Remote }, transports: [tcp()], token: "t" });
  console.log(await node.listen("tcp://127.0.0.1:0"));
}
