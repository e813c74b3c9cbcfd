/** What runs in the browser's tab, for tab.test.ts: a node like any other. Bundled by the test. */

import { Tensor } from "../../protocols/tensor.ts";
import { Actor, NodeRuntime, type Ref, webrtc, ws } from "../../runtime/index.ts";
import type { Worker } from "./tab.test.ts";

/** Started in the tab, by itself and by others. */
class Doubler extends Actor {
  private seen = 0;

  async twice(tensor: Tensor) {
    return Tensor.f32(
      tensor.shape,
      tensor.f32().map((x) => 2 * x),
    );
  }
  async note(tensor: Tensor) {
    this.seen += tensor.bytes.byteLength;
  }
  async total() {
    return this.seen;
  }
  async hash(tensor: Tensor) {
    return sha256(tensor);
  }
}

async function sha256(tensor: Tensor): Promise<string> {
  const digest = await crypto.subtle.digest("SHA-256", tensor.bytes as BufferSource);
  return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

const node = new NodeRuntime({
  ...{ name: "tab", token: "t", actors: { Doubler } },
  transports: [ws(), webrtc()],
});

/** What the test calls. */
const steps = {
  async connect(address: string) {
    const peer = await node.connect(address);
    return { id: node.id, transport: peer.transport };
  },
  async local() {
    const ref = await node.spawn(Doubler, []);
    const doubled = await ref.ask.twice(Tensor.f32([3], Float32Array.of(1, 2, 3)));
    ref.tell.note(doubled);
    return { doubled: [...doubled.f32()], total: await ref.ask.total() };
  },
  /** Starts a worker on another node, tells it tensors, asks it for one, and compares hashes on both ends. */
  async work(id: string, elements: number) {
    const worker: Ref<Worker> = await node.spawnOn(id, "Worker", []);
    const tensor = Tensor.f32(
      [elements],
      Float32Array.from({ length: elements }, (_, i) => i),
    );
    worker.tell.note(tensor);
    const hashThere = await worker.ask.hash(tensor);
    const back = await worker.ask.twice(tensor);
    return {
      here: await sha256(tensor),
      there: hashThere,
      back: await sha256(back),
      last: back.f32()[elements - 1],
      noted: await worker.ask.total(),
    };
  },
  async webrtc(id: string) {
    const peer = await node.connect(`webrtc://${id}`);
    return { transport: peer.transport, route: peer.route };
  },
};

export type Steps = typeof steps;
Object.assign(globalThis, { steps });
