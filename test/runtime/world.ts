/** Nodes for tests: quiet, on one memory network and one virtual clock unless told otherwise. */

import { VirtualClock } from "../../runtime/clock.ts";
import { NodeRuntime } from "../../runtime/node.ts";
import type { NodeOptions } from "../../runtime/node_options.ts";
import { MemoryNetwork, memory } from "../../runtime/transports/memory.ts";

export class World {
  readonly clock = new VirtualClock(1_000_000);
  readonly network = new MemoryNetwork();
  private readonly nodes: NodeRuntime[] = [];

  node(name: string, options: Partial<NodeOptions> = {}): NodeRuntime {
    const node = new NodeRuntime({
      name,
      transports: [memory(this.network)],
      clock: this.clock,
      log: () => {},
      ...options,
    });
    this.nodes.push(node);
    return node;
  }

  async close(): Promise<void> {
    for (const node of this.nodes.splice(0)) {
      const closed = node.close();
      await this.clock.advance(60_000);
      await closed;
    }
  }
}

/** Ends the connection between two nodes as a cut cable would; both nodes stay. */
export function cut(node: NodeRuntime, other: NodeRuntime): void {
  (node as any).membership.find(other.id).link.fail(new Error("the cable is cut"));
}

/** What a promise was rejected with. */
export async function failure(
  work: Promise<unknown>,
): Promise<Error & { code: string; cause?: Error; node?: string }> {
  return work.then(
    (value) => {
      throw new Error(`expected a rejection, got ${String(value)}`);
    },
    (error) => error,
  );
}
