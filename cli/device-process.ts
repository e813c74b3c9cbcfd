/**
 * A device that a run starts for itself: `troupe node` as a child process, which takes connections on this machine and ends
 * with whoever started it.
 */

import type { Clock } from "../runtime/index.ts";
import { type Child, startChild } from "../runtime/platform/children.ts";
import { scriptCommand } from "../runtime/platform/process.ts";
import { LaunchError } from "./command.ts";
import { TOKEN_VARIABLE } from "./security.ts";
import type { TrainSettings } from "./train-options.ts";

/** A device process starts in about half a second, and in ten on a single-board computer's first time. */
const START_MS = 60_000;

export interface DeviceProcess {
  readonly child: Child;
  /** Where it listens. Rejected with a LaunchError when it does not come to that. */
  readonly address: Promise<string>;
}

/** @param said told each line that it writes on its standard error. */
export function startDevice(
  name: string,
  { engine, transport, heartbeat, chaos, security }: TrainSettings,
  clock: Clock,
  said: (line: string) => void,
): DeviceProcess {
  const { token, certificate } = security;
  const listening = Promise.withResolvers<string>();
  let firstError: string | undefined;
  const child = startChild({
    command: [
      ...scriptCommand(new URL("./main.ts", import.meta.url)),
      ...["node", "--listen", "tcp://127.0.0.1:0", "--name", name, "--engine", engine],
      ...["--transport", transport, "--attached", "--json"],
      ...["--patience", `${heartbeat.patienceMs}`],
      ...(token !== undefined && certificate === undefined ? ["--insecure"] : []),
      ...(chaos.faults.length + chaos.series.length > 0 ? ["--chaos"] : []),
    ],
    environment: token === undefined ? {} : { [TOKEN_VARIABLE]: token },
    onOutput: (line) => listening.resolve(JSON.parse(line).address),
    onError: (line) => {
      firstError ??= line;
      said(line);
    },
  });
  child.ended.then((how) => {
    const why = firstError ? firstError.replace(/^troupe: /, "") : how;
    listening.reject(new LaunchError(`${name} did not start: ${why}`));
  });
  const timer = clock.setTimer(
    () => listening.reject(new LaunchError(`${name} did not start within ${START_MS / 1000} s`)),
    START_MS,
  );
  const address = listening.promise.finally(() => clock.clearTimer(timer));
  address.catch(() => {}); // Heard of by whoever waits for it.
  return { child, address };
}
