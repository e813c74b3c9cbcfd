/** What a run that has ended too soon says of how to go on with it. */

import { DEFAULT_HEARTBEAT } from "../runtime/index.ts";
import { resumeArguments } from "./checkpoint-options.ts";
import type { TrainSettings } from "./train-options.ts";

/** What to type to go on behind the last checkpoint, at the end of a sentence; or that there is none. */
export function goOn(checkpoint: string | null, settings: TrainSettings): string {
  const { run, join, listen, devices, devicesAsked, engine, out, security, transport, identity } = settings;
  const { patienceMs } = settings.heartbeat;
  if (checkpoint === null) return "; there is no checkpoint yet";
  const args = [...resumeArguments(checkpoint, out, run), ...(run.data === null ? [] : ["--data", run.data])];
  for (const address of join) args.push("--join", address);
  if (listen !== undefined) args.push("--listen", listen);
  if (devicesAsked) args.push("--devices", `${devices}`);
  if (run.copies !== undefined && run.copies !== 1) args.push("--copies", `${run.copies}`);
  if (patienceMs !== DEFAULT_HEARTBEAT.patienceMs) args.push("--patience", `${patienceMs}`);
  if (engine !== "auto") args.push("--engine", engine);
  if (transport !== "auto") args.push("--transport", transport);
  if (security.insecure) args.push("--insecure");
  if (identity !== undefined) args.push("--identity", identity);
  return `; the last checkpoint is ${checkpoint}, go on with: npx bun run train ${args.map(quoted).join(" ")}`;
}

/** As a word for a shell. */
export const quoted = (word: string) => (/^[\w./:=@-]+$/.test(word) ? word : JSON.stringify(word));
