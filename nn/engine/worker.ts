/**
 * A backend in a worker thread, and the adapter that makes it look local.
 *
 * Comlink carries everything that is done once. Runs, which are done thousands of times, are bare messages: the
 * number of a binding there, the kernel milliseconds (or an error's text) back, in the same order; that halves
 * what a run costs beside its kernels. Both use the worker's own port, so that order holds between them.
 * Comlink does not wait for one answer before it takes the next message and knows nothing of a worker that dies;
 * both are made good here.
 */

import * as Comlink from "comlink";
import type { Graph } from "../onnx/graph.ts";
import { encodeModel } from "../onnx/proto.ts";
import type { Backend, DeviceBackend } from "./backend.ts";
import { EngineError } from "./engine.ts";

type Remote = Omit<DeviceBackend<Uint8Array>, "run"> & { watch(flag: SharedArrayBuffer): void };
type AnyBackend = Backend<Uint8Array> & Partial<DeviceBackend<Uint8Array>>;

/** In the worker: answers the calls of `connectWorker` with this backend, one after the other. */
export function serveBackend(open: () => AnyBackend | Promise<AnyBackend>): void {
  let backend: AnyBackend | undefined;
  let closing: Int32Array = new Int32Array(1);
  let last: Promise<unknown> = Promise.resolve();
  const inTurn = <T>(task: (backend: AnyBackend) => T | Promise<T>): Promise<T> => {
    const turn = last.then(async () => {
      if (Atomics.load(closing, 0)) throw new EngineError("the engine is closed");
      backend ??= await open();
      return task(backend);
    });
    last = turn.catch(() => {});
    return turn;
  };
  const remote: Remote = {
    watch: (flag) => {
      closing = new Int32Array(flag);
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
    if (typeof data !== "number") return;
    inTurn((b) => b.run(data)).then(postMessage, (error) => postMessage(messageOf(error)));
  });
  Comlink.expose(remote);
}

/** The backend of a worker whose script calls `serveBackend`; the worker is its own from here on. */
export function connectWorker(worker: Worker): DeviceBackend<Graph> {
  const remote = Comlink.wrap<Remote>(worker as Comlink.Endpoint);
  // Looked up once: every property access on a Comlink proxy makes a new proxy.
  const { watch, compile, createBinding, profile, releaseBinding, releaseExecutable, close } = remote;
  const { writeTensor, readTensor, clearTensor, copyTensor, releaseTensor } = remote;
  const closing = new Int32Array(new SharedArrayBuffer(4));
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

  answer(watch(closing.buffer)).catch(() => {});
  return {
    compile: (id, graph, options) => answer(compile(id, encodeModel(graph), options)),
    createBinding: (id, executable, feeds, fetches) =>
      answer(createBinding(id, executable, [...feeds], [...fetches])),
    run(id) {
      if (failure) return Promise.reject(failure);
      const run = Promise.withResolvers<number>();
      runs.push(run);
      worker.postMessage(id);
      return run.promise;
    },
    profile: (id) => answer(profile(id)),
    releaseBinding: (id) => answer(releaseBinding(id)),
    releaseExecutable: (id) => answer(releaseExecutable(id)),
    writeTensor: (tensor) => answer(writeTensor(tensor)),
    readTensor: (tensor) => answer(readTensor(tensor)),
    clearTensor: (tensor) => answer(clearTensor(tensor)),
    copyTensor: (from, to) => answer(copyTensor(from, to)),
    releaseTensor: (id) => answer(releaseTensor(id)),
    async close() {
      // What is queued is skipped; what is running ends first, for its memory must outlive it.
      Atomics.store(closing, 0, 1);
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
