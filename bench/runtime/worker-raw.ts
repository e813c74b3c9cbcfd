/** Raw messages between two threads: a buffer that is transferred, there and back; a number. The thread runs this too. */

import { contend } from "./contender.ts";
import { HOPS, ROUND_TRIPS, WORKER_BYTES } from "./sizes.ts";

function thread(): void {
  addEventListener("message", ({ data }: MessageEvent) => {
    if (typeof data === "number") postMessage(data);
    else postMessage(data, [data]);
  });
}

async function main(): Promise<void> {
  const worker = new Worker(import.meta.url);
  let back: (data: any) => void = () => undefined;
  worker.onmessage = ({ data }) => back(data);
  const answer = () =>
    new Promise<any>((resolve) => {
      back = resolve;
    });
  let buffer = new Uint8Array(WORKER_BYTES).fill(3).buffer;

  await contend({
    hop: async () => {
      const times: number[] = [];
      for (let i = 0; i < HOPS; i++) {
        const begun = Bun.nanoseconds();
        const returned = answer();
        worker.postMessage(buffer, [buffer]);
        buffer = await returned;
        times.push((Bun.nanoseconds() - begun) / 2);
        if (new Uint8Array(buffer)[WORKER_BYTES - 1] !== 3) throw new Error("a wrong buffer");
      }
      return times;
    },
    ask: async () => {
      const times: number[] = [];
      for (let i = 0; i < ROUND_TRIPS; i++) {
        const begun = Bun.nanoseconds();
        const answering = answer();
        worker.postMessage(i);
        if ((await answering) !== i) throw new Error("a wrong answer");
        times.push(Bun.nanoseconds() - begun);
      }
      return times;
    },
  });
  worker.terminate();
}

if (Bun.isMainThread) await main();
else thread();
