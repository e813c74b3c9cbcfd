/**
 * A backend in a worker thread, and the adapter that makes it look local.
 *
 * Comlink carries everything that is done once. Runs, which are done thousands of times, wait in a queue in shared
 * memory, and their kernel milliseconds (or an error's text) come back as bare messages in the same order: between two
 * runs that wait, the thread does nothing else. Calls are counted, so that one order holds for them and for runs.
 * Comlink does not wait for one answer before it takes the next message and knows nothing of a worker that dies;
 * both are made good here.
 */

import * as Comlink from "comlink";
import type { Graph } from "../onnx/graph.ts";
import { encodeModel } from "../onnx/proto.ts";
import type { Backend, DeviceBackend } from "./backend.ts";
import { EngineError } from "./engine.ts";
import { RunReceiver, RunSender } from "./run-queue.ts";

type Remote = Omit<DeviceBackend<Uint8Array>, "run"> & { watch(runs: SharedArrayBuffer): void };
type AnyBackend = Backend<Uint8Array> & Partial<DeviceBackend<Uint8Array>>;

/** The message that wakes the thread for the runs that wait. */
const WAKE = null;

/** In the worker: answers the calls of `connectWorker` with this backend, one after the other. */
export function serveBackend(open: () => AnyBackend | Promise<AnyBackend>): void {
  let backend: AnyBackend | undefined;
  let runs: RunReceiver;
  /** Calls that were answered. */
  let calls = 0;
  let last: Promise<unknown> = Promise.resolve();

  const opened = async (): Promise<AnyBackend> => {
    if (runs.closed) throw new EngineError("the engine is closed");
    backend ??= await open();
    return backend;
  };
  const run = async (binding: number): Promise<void> => {
    try {
      const answer = (backend && !runs.closed ? backend : await opened()).run(binding);
      postMessage(typeof answer === "number" ? answer : await answer);
    } catch (error) {
      postMessage(messageOf(error));
    }
  };
  /** Runs what was asked for before the next call. */
  const runAll = async (): Promise<void> => {
    do {
      for (let next = runs.take(calls); next !== undefined; next = runs.take(calls)) await run(next);
    } while (!runs.sleep(calls));
  };
  const inTurn = <T>(task: (backend: AnyBackend) => T | Promise<T>): Promise<T> => {
    const turn = last.then(runAll).then(opened).then(task);
    last = turn
      .catch(() => {})
      .then(() => {
        calls = (calls + 1) | 0;
        return runAll();
      });
    return turn;
  };
  const remote: Remote = {
    watch: (memory) => {
      runs = new RunReceiver(memory);
    },
    compile: (id, model, options) => inTurn((b) => b.compile(id, model, options)),
    createBinding: (id, executable, feeds, fetches) =>
      inTurn((b) => b.createBinding(id, executable, feeds, fetches)),
    profile: (id) => inTurn((b) => b.profile(id)),
    releaseBinding: (id) => inTurn((b) => b.releaseBinding(id)),
    releaseExecutable: (id) => inTurn((b) => b.releaseExecutable(id)),
    writeTensor: (tensor) => inTurn((b) => b.writeTensor?.(tensor)),
    readTensor: (tensor) => inTurn((b) => b.readTensor?.(tensor)),
    clearTensor: (tensor) => inTurn((b) => b.clearTensor?.(tensor)),
    copyTensor: (from, to) => inTurn((b) => b.copyTensor?.(from, to)),
    releaseTensor: (id) => inTurn((b) => b.releaseTensor?.(id)),
    close: () => last.then(() => backend?.close()),
  };
  addEventListener("message", ({ data }) => {
    if (data === WAKE) last = last.then(runAll);
    else if (typeof data === "number")
      inTurn(() => run(data)).catch((error) => postMessage(messageOf(error)));
  });
  Comlink.expose(remote);
}

/** The backend of a worker whose script calls `serveBackend`; the worker is its own from here on. */
export function connectWorker(worker: Worker): DeviceBackend<Graph> {
  const remote = Comlink.wrap<Remote>(worker as Comlink.Endpoint);
  // Looked up once: every property access on a Comlink proxy makes a new proxy.
  const { watch, compile, createBinding, profile, releaseBinding, releaseExecutable, close } = remote;
  const { writeTensor, readTensor, clearTensor, copyTensor, releaseTensor } = remote;
  const queue = new RunSender(() => worker.postMessage(WAKE));
  /** Calls that were made. */
  let calls = 0;
  // Not a race against one long-lived promise: each race would leave a reaction behind for the engine's life.
  const waiting = new Set<(reason: EngineError) => void>();
  /** Runs that have not been answered, oldest first. */
  const runs: PromiseWithResolvers<number>[] = [];
  let failure: EngineError | undefined;

  worker.addEventListener("error", (event) => {
    event.preventDefault();
    failure = new EngineError(`the engine's worker failed: ${event.message}`);
    for (const reject of waiting) reject(failure);
    for (const { reject } of runs.splice(0)) reject(failure);
  });
  worker.addEventListener("message", ({ data }) => {
    if (typeof data === "number") runs.shift()?.resolve(data);
    else if (typeof data === "string") runs.shift()?.reject(new EngineError(data));
  });

  const answer = <T>(call: Promise<T>): Promise<T> =>
    new Promise((resolve, reject) => {
      if (failure) return reject(failure);
      waiting.add(reject);
      call
        // Comlink rebuilds an error as a plain Error; its class is restored here.
        .then(resolve, (cause) => reject(new EngineError(messageOf(cause), { cause })))
        .finally(() => waiting.delete(reject));
    });

  const counted = <T>(call: Promise<T>): Promise<T> => {
    calls = (calls + 1) | 0;
    return answer(call);
  };

  answer(watch(queue.memory)).catch(() => {});
  return {
    compile: (id, graph, options) => counted(compile(id, encodeModel(graph), options)),
    createBinding: (id, executable, feeds, fetches) =>
      counted(createBinding(id, executable, [...feeds], [...fetches])),
    run(id) {
      if (failure) return Promise.reject(failure);
      const run = Promise.withResolvers<number>();
      runs.push(run);
      if (!queue.add(id, calls)) {
        worker.postMessage(id);
        calls = (calls + 1) | 0;
      }
      return run.promise;
    },
    profile: (id) => counted(profile(id)),
    releaseBinding: (id) => counted(releaseBinding(id)),
    releaseExecutable: (id) => counted(releaseExecutable(id)),
    writeTensor: (tensor) => counted(writeTensor(tensor)),
    readTensor: (tensor) => counted(readTensor(tensor)),
    clearTensor: (tensor) => counted(clearTensor(tensor)),
    copyTensor: (from, to) => counted(copyTensor(from, to)),
    releaseTensor: (id) => counted(releaseTensor(id)),
    async close() {
      // What is queued is skipped; what is running ends first, for its memory must outlive it.
      queue.close();
      try {
        await answer(close());
      } catch (error) {
        // A worker that failed holds nothing any more.
        if (!failure) throw error;
      } finally {
        worker.terminate();
      }
    },
  };
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
