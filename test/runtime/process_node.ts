/** A node in a process of its own, for processes.test.ts: listens, prints its address, lives until it is killed. */

import type { Tensor } from "../../protocols/tensor.ts";
import { Actor } from "../../runtime/actor.ts";
import type { Down } from "../../runtime/monitor.ts";
import { NodeRuntime } from "../../runtime/node.ts";
import type { Ref } from "../../runtime/ref.ts";
import { tcp } from "../../runtime/transports/tcp.ts";

export class Remote extends Actor {
  static override readonly reentrant = ["never"];
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
  /** Asks somebody what is never answered, and keeps how that ends. */
  async askInVain(ref: Ref<Remote>) {
    this.ends.push("asked");
    ref.ask.never().catch(({ code }) => this.ends.push(code));
    this.context.monitor(ref);
  }
  override onDown({ reason }: Down) {
    this.ends.push(`down: ${reason.code}`);
  }
  async howItEnded() {
    return this.ends;
  }
  private readonly ends: string[] = [];
}

/** Short, so that a test need not wait; the same at both ends. */
export const heartbeat = { intervalMs: 100, patienceMs: 1000 };

if (import.meta.main) {
  const node = new NodeRuntime({
    name: "child",
    actors: { Remote },
    transports: [tcp()],
    token: "t",
    heartbeat,
  });
  console.log(await node.listen("tcp://127.0.0.1:0"));
}
