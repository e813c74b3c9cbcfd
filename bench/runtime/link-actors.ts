/**
 * The actor at the far end of a link, and the node that runs it: `bun link-actors.ts <address to listen on> [hub]`,
 * where a hub is a node through which WebRTC finds its way. Prints where it can be connected to.
 */

import type { Tensor } from "../../protocols/index.ts";
import { Actor, MemoryPool, NodeRuntime, shm, type Transport, tcp, webrtc } from "../../runtime/index.ts";

const pool = new MemoryPool();

/** Takes what it is sent. */
export class Sink extends Actor {
  #count = 0;
  /** Answers with what it was asked. */
  echo(bytes: Uint8Array): Uint8Array {
    return bytes;
  }
  add(by: number): void {
    this.#count += by;
  }
  count(): number {
    return this.#count;
  }
  /** Answers with its last byte, so that it must have come whole, and gives its memory back to serve again. */
  take(tensor: Tensor): number {
    const last = tensor.bytes[tensor.bytes.byteLength - 1]!;
    pool.release(tensor);
    return last;
  }
}

export function transports(): Transport[] {
  return [tcp(), shm(), webrtc()];
}

if (import.meta.main) {
  const [address, hub] = process.argv.slice(2);
  const node = new NodeRuntime({
    name: "far",
    actors: { Sink },
    transports: transports(),
    allocate: pool.allocate,
  });
  if (hub !== undefined) await node.connect(hub);
  process.stdout.write(`${await node.listen(address!)}\n`);
  for await (const _ of console);
  await node.close();
}
