/**
 * Starts a node in a thread of its own, and sees to its end. Works wherever there is `Worker`: Bun, Deno, browsers.
 *
 *     const network = new WorkerNetwork();
 *     const node = new NodeRuntime({ name: "main", transports: [worker(network)] });
 *     const thread = await startWorkerNode(network, new URL("./my-actors.ts", import.meta.url));
 *     const { id } = await node.connect(thread.address);
 *     const counter = await node.spawnOn<Counter>(id, "Counter", [0]);
 *
 * The module ends with `await workerNode({ actors: { Counter } })` (worker.ts). Comlink carries what is done once;
 * messages between nodes have ports of their own.
 */

import * as Comlink from "comlink";
import { type Clock, systemClock } from "../../clock.ts";
import { asError, RuntimeError } from "../../errors.ts";
import type { Door, WorkerNetwork } from "./network.ts";

/** What the node in the thread is told at its start. */
export interface WorkerNodeOptions {
  /** The node's name, and the beginning of its address. Default: `worker`. */
  readonly name?: string;
  /** The join token, as of the nodes it will be connected to. */
  readonly token?: string;
  /** For the patience with its start and end. Default: the machine's. */
  readonly clock?: Clock;
}

/** A node in a thread, in the hands of whoever started it. */
export interface WorkerNode {
  /** Where the node in the thread can be connected to, from this thread and its other workers. */
  readonly address: string;
  /** Resolves when the thread has ended: with its first real error if it failed, otherwise with undefined. */
  readonly ended: Promise<Error | undefined>;
  /**
   * Closes the node in good order, then ends the thread; one that is busy for longer than `withinMs` is ended
   * where it stands. Idempotent.
   */
  close(withinMs?: number): Promise<void>;
}

/** What the thread answers to (worker.ts). */
export interface WorkerSide {
  start(setup: { address: string; name: string; token: string | undefined }, hub: Door): Promise<void>;
  accept: Door;
  /** Another thread has ended. */
  threadEnded(address: string, why: string | undefined): void;
  close(): Promise<void>;
}

/** Posted by the thread once it listens to Comlink: what is sent earlier may be lost. */
export const READY = "troupe: ready";
/** Begins what the thread posts when it fails (with name, message and stack), before the platform speaks. */
export const FAILED = "troupe: failed";

const START_MS = 30_000;
const CLOSE_MS = 10_000;

/** The threads a network's thread has started, to tell them of one another's end. */
const threads = new WeakMap<WorkerNetwork, Set<Comlink.Remote<WorkerSide>>>();

/**
 * Starts a node in a thread and resolves when it can be connected to.
 * @param script the module, or a worker that runs it (for bundlers, which have to see `new Worker(new URL(…))`).
 * @throws RuntimeError SPAWN_FAILED with the module's first real error, or when it does not call `workerNode`.
 */
export async function startWorkerNode(
  network: WorkerNetwork,
  script: URL | Worker,
  { name = "worker", token, clock = systemClock }: WorkerNodeOptions = {},
): Promise<WorkerNode> {
  const worker = script instanceof URL ? new Worker(script, { type: "module" }) : script;
  const remote = Comlink.wrap<WorkerSide>(worker as Comlink.Endpoint);
  const address = network.take(`worker://${name}-`, (to, port, from) =>
    remote.accept(to, Comlink.transfer(port, [port]), from),
  );
  const siblings = threads.get(network) ?? new Set();
  threads.set(network, siblings);

  const ready = Promise.withResolvers<void>();
  const ended = Promise.withResolvers<Error | undefined>();
  let over = false;
  const end = (error?: Error) => {
    if (over) return;
    over = true;
    worker.terminate();
    siblings.delete(remote);
    network.ended(address, error);
    for (const sibling of siblings) {
      sibling.threadEnded(address, error?.message).catch(() => undefined); // it may be ending itself
    }
    ended.resolve(error);
  };
  const failed = (message: string, cause?: Error) =>
    end(new RuntimeError("NODE_LOST", `the thread ${address} failed: ${message}`, { cause }));
  worker.addEventListener("error", (event) => {
    event.preventDefault();
    failed(event.message);
  });
  worker.addEventListener("messageerror", () => failed("a message could not be read"));
  // Bun's event for a thread that ends itself; elsewhere a thread does that only after its node is closed.
  worker.addEventListener("close", () => end());
  worker.addEventListener("message", ({ data }) => {
    if (data === READY) ready.resolve();
    else if (Array.isArray(data) && data[0] === FAILED) {
      const [, name, text, stack] = data;
      failed(`${name}: ${text}`, Object.assign(new Error(text), { name, stack }));
    }
  });

  const dead = ended.promise.then((error) => {
    throw error ?? new Error("the thread ended");
  });
  dead.catch(() => undefined);
  const within = async <T>(work: Promise<T>, ms: number, what: string): Promise<T> => {
    const late = Promise.withResolvers<never>();
    const timer = clock.setTimer(() => late.reject(new Error(`${what} within ${ms} ms`)), ms);
    try {
      return await Promise.race([work, dead, late.promise]);
    } finally {
      clock.clearTimer(timer);
    }
  };

  try {
    await within(ready.promise, START_MS, "the module did not call workerNode");
    const hub = Comlink.proxy(((to, port, from) => network.open(to, port, from)) as Door);
    await within(remote.start({ address, name, token }, hub), START_MS, "its node did not start");
  } catch (error) {
    end();
    const { message } = asError(error);
    throw new RuntimeError("SPAWN_FAILED", `cannot start a node in a thread: ${message}`, { cause: error });
  }
  siblings.add(remote);
  return {
    address,
    ended: ended.promise,
    async close(withinMs = CLOSE_MS) {
      // Whatever comes first: the node is closed, the thread is gone, or the time is over.
      await within(remote.close(), withinMs, "it did not close").catch(() => undefined);
      end();
    },
  };
}
