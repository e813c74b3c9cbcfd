/**
 * How the thread that uses the web engine gets blocks of the module's heap from the worker that runs it: a message
 * asks, shared memory answers, and the asking thread waits. Both ends are here.
 */

import { EngineError } from "../engine.ts";
import type { ArenaSource } from "./heap.ts";

/** What the worker is told. */
export type ArenaMessage =
  | { readonly kind: "start"; readonly threads: number; readonly control: SharedArrayBuffer }
  | { readonly kind: "take"; readonly bytes: number }
  | { readonly kind: "give"; readonly address: number };

/** What the worker says when it has started, or why it has not. */
type Answer =
  | { readonly kind: "started"; readonly memory: WebAssembly.Memory }
  | { readonly kind: "failed"; readonly reason: string };

/** Words of the control block: whether there is an answer, and the answer. */
const [ANSWERED, ADDRESS] = [0, 1];
/** The run in flight ends first. Longer than this, and the worker is dead. */
const PATIENCE_MS = 120_000;

/** Starts the module in the worker. @throws EngineError with the reason when it does not start. */
export function startArenas(worker: Worker, threads: number): Promise<ArenaSource> {
  const control = new Int32Array(new SharedArrayBuffer(8));
  const send = (message: ArenaMessage) => worker.postMessage(message);
  const started = Promise.withResolvers<ArenaSource>();
  const fail = (reason: string) =>
    started.reject(new EngineError(`the web engine does not start: ${reason}`));
  worker.addEventListener("error", (event) => fail(event.message));
  worker.addEventListener("message", ({ data }: MessageEvent<Answer>) => {
    if (data?.kind === "failed") fail(data.reason);
    if (data?.kind !== "started") return;
    started.resolve({
      memory: data.memory,
      take(bytes) {
        Atomics.store(control, ANSWERED, 0);
        send({ kind: "take", bytes });
        wait(control);
        return Atomics.load(control, ADDRESS) >>> 0;
      },
      give: (address) => send({ kind: "give", address }),
    });
  });
  send({ kind: "start", threads, control: control.buffer });
  return started.promise;
}

/** The worker's answer; address 0 says that there is no memory. */
export function answerTake(control: Int32Array, address: number): void {
  Atomics.store(control, ADDRESS, address | 0);
  Atomics.store(control, ANSWERED, 1);
  Atomics.notify(control, ANSWERED);
}

function wait(control: Int32Array): void {
  let outcome: string;
  try {
    outcome = Atomics.wait(control, ANSWERED, 0, PATIENCE_MS);
  } catch {
    // The thread of a page must not sleep; it may only turn in circles.
    while (Atomics.load(control, ANSWERED) === 0);
    return;
  }
  if (outcome === "timed-out") throw new EngineError("the web engine's worker does not answer");
}
