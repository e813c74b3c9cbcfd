/**
 * The node of a worker thread. A module that is started with `startWorkerNode` (host.ts) says which actors it
 * hosts, and is a node like any other: it may be connected to, connect, listen elsewhere, and spawn.
 *
 * The thread is one event loop. An actor that computes for long in it (an inference without a worker of its own)
 * keeps all others of its node waiting, and nobody takes the node for dead for that: see network.ts.
 */

import * as Comlink from "comlink";
import { asError } from "../../errors.ts";
import { NodeRuntime } from "../../node.ts";
import type { NodeOptions } from "../../node_options.ts";
import { FAILED, READY, type WorkerSide } from "./host.ts";
import { type Door, WorkerNetwork, worker } from "./network.ts";

/** What a thread's node may be given; its name and token come from who starts it, unless they are named here. */
export type InWorkerOptions = Partial<NodeOptions>;

/**
 * Makes this thread a node, and resolves with it once whoever started the thread has given it its address.
 * Call it once, at the end of the module. An uncaught error ends the thread and with it the node.
 */
export async function workerNode(options: InWorkerOptions = {}): Promise<NodeRuntime> {
  const started = Promise.withResolvers<NodeRuntime>();
  let network: WorkerNetwork | undefined;
  const side: WorkerSide = {
    async start({ address, name, token }, hub) {
      const parent: Door = (to, port, from) => hub(to, Comlink.transfer(port, [port]), from);
      network = new WorkerNetwork(address, parent);
      const transports = [worker(network, options.clock), ...(options.transports ?? [])];
      const given = token === undefined ? {} : { token };
      const node = new NodeRuntime({ name, ...given, ...options, transports });
      await node.listen(address);
      started.resolve(node);
    },
    accept: (to, port, from) => {
      if (!network) throw new Error("the node of this thread has not started");
      return network.enter(to, port, from);
    },
    threadEnded: (address, why) => network?.ended(address, why === undefined ? undefined : new Error(why)),
    close: async () => (await started.promise).close(),
  };
  addEventListener("error", (event) => tell((event as ErrorEvent).error ?? (event as ErrorEvent).message));
  addEventListener("unhandledrejection", (event) => tell((event as Event & { reason?: unknown }).reason));
  Comlink.expose(side);
  postMessage(READY);
  return started.promise;
}

/** The platform tells who started the thread too, but with less of the error, and not everywhere. */
function tell(thrown: unknown): void {
  const { name, message, stack } = asError(thrown);
  postMessage([FAILED, name, message, stack]);
}
