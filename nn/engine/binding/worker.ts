/** The script of the node-binding engine's worker thread. */

import process from "node:process";
import { nameKernelThread } from "../native/thread.ts";
import { OperatorTimes } from "../profile.ts";
import { serveBackend } from "../worker.ts";
import { type OrtModule, SessionBackend } from "./backend.ts";
import { loadBinding } from "./load.ts";

nameKernelThread();
const times = () => new OperatorTimes();
serveBackend(async () => {
  const ort = await loadBinding();
  ort.env.logLevel = "fatal";
  return new SessionBackend(
    ort as unknown as OrtModule,
    () => performance.now(),
    "bun" in process.versions,
    times,
  );
});
