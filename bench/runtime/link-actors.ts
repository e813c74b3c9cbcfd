/** The actor at the far end of a link, and the node that runs it. */

import type { Tensor } from "../../protocols/index.ts";
import { Actor, NodeRuntime, type Transport, tcp } from "../../runtime/index.ts";

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
  /** Answers with its last byte, so that it must have come whole. */
  take(tensor: Tensor): number {
    return tensor.bytes[tensor.bytes.byteLength - 1]!;
  }
}

export function transports(): Transport[] {
  return [tcp()];
}

if (import.meta.main) {
  const node = new NodeRuntime({ name: "far", actors: { Sink }, transports: transports() });
  process.stdout.write(`${await node.listen(process.argv[2]!)}\n`);
  for await (const _ of console);
  await node.close();
}
