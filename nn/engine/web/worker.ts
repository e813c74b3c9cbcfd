/**
 * The script of the web engine's worker thread. Beside what every backend is told it takes two messages: to start
 * the module, and to give or take back a block of its heap (`arenas.ts` is the other end).
 */

import { serveBackend } from "../worker.ts";
import { type ArenaMessage, answerTake } from "./arenas.ts";
import { WebBackend } from "./backend.ts";
import { WebModule } from "./module.ts";

const loaded = Promise.withResolvers<WebModule>();
// Whoever waits for it is told; nobody else has to know.
loaded.promise.catch(() => {});
let open: { module: WebModule; control: Int32Array } | undefined;

addEventListener("message", async ({ data }: MessageEvent<ArenaMessage>) => {
  if (data?.kind === "start") {
    try {
      const module = await WebModule.load(data.threads);
      open = { module, control: new Int32Array(data.control) };
      loaded.resolve(module);
      postMessage({ kind: "started", memory: module.memory });
    } catch (error) {
      loaded.reject(error);
      postMessage({ kind: "failed", reason: error instanceof Error ? error.message : String(error) });
    }
  } else if (data?.kind === "take" && open) {
    answerTake(open.control, open.module.api._malloc(data.bytes));
  } else if (data?.kind === "give" && open) open.module.api._free(data.address);
});

serveBackend(async () => new WebBackend(await loaded.promise, () => performance.now()));
