/**
 * A node in a process of its own, for through_a_third.test.ts: connects to the node in between, listens for whoever
 * comes through it, prints its id, and lives until it is told to close on standard input, or killed.
 *
 *     bun third_node.ts <address of the node in between> webrtc|relay
 */

import type { Tensor } from "../../../protocols/tensor.ts";
import { Actor } from "../../../runtime/actor.ts";
import { NodeRuntime } from "../../../runtime/node.ts";
import { relay } from "../../../runtime/transports/relay/relay.ts";
import { tcp } from "../../../runtime/transports/tcp.ts";
import { webrtc } from "../../../runtime/transports/webrtc/webrtc.ts";

export class Far extends Actor {
  private bytes = 0;

  async note(tensor: Tensor) {
    this.bytes += tensor.bytes.byteLength;
  }
  async noted() {
    return this.bytes;
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
  const [between, scheme] = process.argv.slice(2) as [string, string];
  const transports = [tcp(), scheme === "webrtc" ? webrtc() : relay()];
  const node = new NodeRuntime({ name: "far", actors: { Far }, transports, token: "t", log: () => {} });
  await node.connect(between);
  await node.listen(`${scheme}://`);
  console.log(node.id);
  process.stdin.once("data", async () => {
    await node.close();
    process.stdin.destroy();
  });
}
