/** The events of a run as one JSON object per line on standard output, for programs. */

import type { Output } from "../runtime/platform/process.ts";
import type { Reporter, RunEvent } from "./events.ts";

export function jsonReport(out: Output, err: Output): Reporter {
  return {
    show: (event) => out.write(`${JSON.stringify(compact(event))}\n`),
    said: (device, line) => err.write(`${device}: ${line}\n`),
    close: () => {},
  };
}

/** Timelines of every step would be most of the output; the last one's is had with --trace. */
function compact(event: RunEvent): unknown {
  if (event.event !== "step") return event;
  return { ...event, stages: event.stages.map(({ spans: _, ...stage }) => stage) };
}
