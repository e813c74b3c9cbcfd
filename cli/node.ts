/**
 * `troupe node`: a device. It hosts a `Device` actor under the name "device" until it is told to end, and runs one
 * training run after another for whoever connects with the right token.
 */

import type { FaultEffects } from "../actors/chaos/injector.ts";
import { Device, type DeviceClaims } from "../actors/device.ts";
import type { DeviceUse } from "../actors/device-uses.ts";
import { DeviceStuck } from "../actors/recovery/lease.ts";
import { DEVICE_CLASSES, type DeviceClassName } from "../actors/scheduler/device-classes.ts";
import { Stage } from "../actors/stage.ts";
import { downText, NodeRuntime, shortFingerprint, systemClock } from "../runtime/index.ts";
import { machine, machineId } from "../runtime/platform/machine.ts";
import {
  EXIT_CODES,
  onInputEnd,
  onSignal,
  signalSelf,
  standardError,
  standardOutput,
  standStill,
} from "../runtime/platform/process.ts";
import { isLoopback } from "../runtime/routes.ts";
import { type Cable, severed } from "../runtime/transports/severed.ts";
import { type Command, UsageError } from "./command.ts";
import { lineLog } from "./log.ts";
import { type OptionTable, parseOptions } from "./options.ts";
import { protectionOf, SECURITY_OPTIONS, securityOf } from "./security.ts";
import {
  heartbeatFrom,
  listenNear,
  PATIENCE_OPTION,
  requireAddress,
  TRANSPORT_OPTION,
  TRANSPORTS,
  transportsOf,
} from "./transports.ts";

/** What device actors are registered as. */
export const DEVICE_NAME = "device";
const MOST_NAME = 64;
/** Who is told to end together with whoever started it, is ended by them in good order: else it ends after so long. */
const ATTACHED_MS = 5000;
const CLASSES = Object.keys(DEVICE_CLASSES) as DeviceClassName[];
export const ENGINES = ["auto", "native", "node-binding", "web", "reference"] as const;

const OPTIONS: OptionTable = {
  listen: {
    value: "tcp://host:port",
    help: "address to take connections at; port 0 takes a free one (default: none, with --join a free port)",
  },
  join: {
    value: "address",
    help: "a run to come to, that listens there (train --listen), and every further one: tried again as long as nobody answers",
  },
  name: {
    value: "name",
    help: "what others call this device, with -2 behind it where another one of that name is in the run (default: the machine's name)",
  },
  engine: {
    value: "name",
    help: `what computes: ${ENGINES.join(", ")} (default: auto, the fastest that works)`,
  },
  class: {
    value: "name",
    help: `what it is most like, for its power where nothing measures: ${CLASSES.join(", ")} (default: by the machine)`,
  },
  memory: { value: "MB", help: "memory to offer for training (default: what the machine has)" },
  transport: TRANSPORT_OPTION,
  patience: PATIENCE_OPTION,
  grace: {
    value: "s",
    help: `how long it keeps what it has of a run whose coordinator is lost (default: 60, or six times the patience if that is more)`,
  },
  ...SECURITY_OPTIONS,
  chaos: { help: "let whoever trains on it break it, as train --chaos does" },
  attached: {
    help: "end when standard input ends, and leave Ctrl-C and a terminal that closes to whoever started this",
  },
  json: { help: "one JSON object per line on standard output" },
};

export const node: Command = {
  name: "node",
  summary: "be a device that others train on",
  options: OPTIONS,
  notes: [
    "On this machine: troupe node --listen tcp://127.0.0.1:4001 --name desk",
    "For others:      TROUPE_TOKEN=<token> troupe node --listen tcp://0.0.0.0:4001",
    "To where troupe train listens: TROUPE_TOKEN=<token> troupe node --join tcp://desk:4000",
  ],
  run,
};

async function run(args: readonly string[]): Promise<number> {
  const options = parseOptions("node", OPTIONS, args);
  const home = options.text("join");
  if (home !== undefined) requireAddress("join", home);
  const address = options.text("listen") ?? (home === undefined ? undefined : beside(home));
  if (address === undefined) {
    throw new UsageError("--listen is missing: an address such as tcp://127.0.0.1:4001 is needed");
  }
  requireAddress("listen", address);
  const name = options.text("name") ?? machine().host;
  if (name.length > MOST_NAME || /\p{Cc}/u.test(name)) {
    throw new UsageError(
      `--name is what people read: at most ${MOST_NAME} characters, none of them control characters`,
    );
  }
  const engine = options.choice("engine", ENGINES) ?? "auto";
  const transport = options.choice("transport", TRANSPORTS) ?? "auto";
  const offered = options.whole("memory", { from: 1, to: 2 ** 30 });
  const like = options.choice("class", CLASSES);
  const claims: DeviceClaims = {
    ...(offered === undefined ? {} : { memoryBytes: offered * 1e6 }),
    ...(like === undefined ? {} : { class: like }),
  };
  const security = await securityOf(options, {
    ...{ addresses: [...(home === undefined ? [] : [home]), address], role: "device" },
  });
  const attached = options.has("attached");

  const ended = Promise.withResolvers<number>();
  onSignal((signal) => {
    const end = () => ended.resolve(EXIT_CODES[signal]);
    if (!attached) end();
    else if (signal === "SIGTERM") systemClock.setTimer(end, ATTACHED_MS);
  });
  if (attached) onInputEnd(() => ended.resolve(0));

  const cable: Cable = { cut: false };
  const effects: FaultEffects = {
    kill: () => signalSelf("SIGKILL"),
    stop: (forMs) => (forMs === undefined ? signalSelf("SIGSTOP") : standStill(forMs)),
    cut: (forMs) => {
      cable.cut = true;
      const mend = () => {
        cable.cut = false;
      };
      if (forMs !== undefined) systemClock.setTimer(mend, forMs);
    },
  };
  const breakable = options.has("chaos");
  const grace = options.whole("grace", { from: 0, to: 86_400 });
  const graceMs = grace === undefined ? undefined : grace * 1000;
  const own = transportsOf(security, transport);
  const transports = breakable ? own.map((each) => severed(each, cable)) : own;
  const runtime = new NodeRuntime({
    name,
    transports,
    machine: machineId(),
    heartbeat: heartbeatFrom(options),
    // A device that is stuck ends itself, which is told below.
    log: (entry) => entry.error instanceof DeviceStuck || lineLog(entry),
    actors: { Device, Stage },
    ...(security.token === undefined ? {} : { token: security.token }),
  });
  try {
    const allowed = breakable ? effects : undefined;
    const keepsMs = graceMs ?? runtime.times.graceMs;
    // Whoever has started it is told by the run.
    const hears = (use: DeviceUse) => attached || tellUse(use, { name, keepsMs }, options.has("json"));
    const device = await runtime.spawn(Device, [name, engine, claims, allowed, graceMs, hears], {
      name: DEVICE_NAME,
    });
    runtime.monitor(device, ({ reason }) => {
      if (reason.code === "normal") return;
      // Whoever has started it is told as everyone else who watches it.
      if (!attached) standardError.write(`troupe: the device failed: ${downText(reason)}\n`);
      ended.resolve(1);
    });
    // Behind it: a run that calls as soon as somebody answers finds a device, or takes the node for one without.
    const listening = await runtime.listen(address);
    await listenNear(runtime, transports);
    const { pid } = machine();
    const fingerprint = security.certificate?.fingerprint ?? null;
    const certificate = fingerprint === null ? "" : `, certificate ${shortFingerprint(fingerprint)}…`;
    standardOutput.write(
      options.has("json")
        ? `${JSON.stringify({ event: "listening", address: listening, name, pid, fingerprint })}\n`
        : `${name} listens on ${listening}, ${protectionOf(security, listening)}${certificate}\n`,
    );
    if (home !== undefined) {
      if (!options.has("json")) standardOutput.write(`${name} calls ${home} until it answers\n`);
      // Why it can never be is in the log.
      runtime.join(home).first.then(
        (peer) => {
          const joined = { event: "joined", name: peer.name, address: home };
          standardOutput.write(
            options.has("json") ? `${JSON.stringify(joined)}\n` : `${name} has come to ${home}\n`,
          );
        },
        () => ended.resolve(1),
      );
    }
    return await ended.promise;
  } finally {
    await runtime.close();
  }
}

/** What becomes of the device, in a line. */
function tellUse(
  use: DeviceUse,
  { name, keepsMs }: { readonly name: string; readonly keepsMs: number },
  json: boolean,
): void {
  const lines: Readonly<Record<DeviceUse, string>> = {
    used: `${name} takes part in a run`,
    kept: `${name} has lost the coordinator of its run, and keeps what it has of it for ${keepsMs / 1000} s`,
    released: `the run is over for ${name}, which waits for the next one`,
  };
  const event = { event: use, name, ...(use === "kept" && { keeps_ms: keepsMs }) };
  standardOutput.write(`${json ? JSON.stringify(event) : lines[use]}\n`);
}

/** A free port, for this machine alone where the other end is on it. */
function beside(address: string): string {
  return isLoopback(address) ? "tcp://127.0.0.1:0" : "tcp://0.0.0.0:0";
}
