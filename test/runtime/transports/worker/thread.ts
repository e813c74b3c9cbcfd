/** The module of the threads in worker.test.ts. */

import type { Tensor } from "../../../../protocols/tensor.ts";
import { Actor } from "../../../../runtime/actor.ts";
import type { Ref } from "../../../../runtime/ref.ts";
import { workerNode } from "../../../../runtime/transports/worker/worker.ts";

export class InThread extends Actor {
  private count = 0;

  async add(n: number) {
    this.count += n;
    return this.count;
  }
  async sum(tensor: Tensor) {
    return tensor.f32().reduce((a, b) => a + b, 0);
  }
  async echo(value: unknown) {
    return value;
  }
  /** The one end of a route from thread to thread. */
  async addThere(there: Ref<InThread>, n: number) {
    return there.ask.add(n);
  }
  /** Holds the thread as a kernel does: nothing else happens in it. Says on the channel when it begins. */
  async compute(ms: number, begins?: string) {
    if (begins !== undefined) new BroadcastChannel(begins).postMessage("begins");
    const until = performance.now() + ms;
    while (performance.now() < until);
    return ms;
  }
  async wait() {
    await new Promise(() => undefined);
  }
  /** An error that nobody catches, outside of any actor. */
  async breakThread() {
    setTimeout(() => {
      throw new RangeError("the thread is broken");
    }, 0);
  }
  async rejectUnseen() {
    void Promise.reject(new RangeError("nobody saw this"));
  }
}

await workerNode({ actors: { InThread } });
