/**
 * `troupe node`: a device. It hosts a `Device` actor under the name "device" until it is told to end, and runs one
 * training run after another for whoever connects with the right token.
 */

import { Device } from "../actors/device.ts";
import { Stage } from "../actors/stage.ts";
import { NodeRuntime, tcp } from "../runtime/index.ts";
import { machine } from "../runtime/platform/machine.ts";
import {
  EXIT_CODES,
  environment,
  onInputEnd,
  onSignal,
  standardError,
  standardOutput,
} from "../runtime/platform/process.ts";
import { type Command, UsageError } from "./command.ts";
import { type OptionTable, parseOptions } from "./options.ts";

/** Where a token may stand that should not be seen in a list of processes. */
export const TOKEN_VARIABLE = "TROUPE_TOKEN";
/** What device actors are registered as. */
export const DEVICE_NAME = "device";
const MOST_NAME = 64;
export const ENGINES = ["auto", "native", "node-binding", "web", "reference"] as const;

const OPTIONS: OptionTable = {
  listen: { value: "tcp://host:port", help: "address to take connections at; port 0 takes a free one" },
  name: { value: "name", help: "what others call this device (default: the machine's name)" },
  token: { value: "text", help: `join token that others must know (default: ${TOKEN_VARIABLE}, or none)` },
  engine: {
    value: "name",
    help: `what computes: ${ENGINES.join(", ")} (default: auto, the fastest that works)`,
  },
  insecure: { help: "allow connections from other machines, although TCP is not encrypted" },
  attached: { help: "end when standard input ends, and leave Ctrl-C to whoever started this" },
  json: { help: "one JSON object per line on standard output" },
};

export const node: Command = {
  name: "node",
  summary: "be a device that others train on",
  options: OPTIONS,
  notes: ["Example: troupe node --listen tcp://127.0.0.1:4001 --name desk"],
  run,
};

async function run(args: readonly string[]): Promise<number> {
  const options = parseOptions("node", OPTIONS, args);
  const address = options.text("listen");
  if (address === undefined) {
    throw new UsageError("--listen is missing: an address such as tcp://127.0.0.1:4001 is needed");
  }
  const insecure = options.has("insecure");
  if (!insecure && isRemote(address)) {
    throw new UsageError(
      `${address} is open to other machines and TCP is not encrypted: listen on 127.0.0.1, or allow it with --insecure`,
    );
  }
  const name = options.text("name") ?? machine().host;
  if (name.length > MOST_NAME || /\p{Cc}/u.test(name)) {
    throw new UsageError(
      `--name is what people read: at most ${MOST_NAME} characters, none of them control characters`,
    );
  }
  const engine = options.choice("engine", ENGINES) ?? "auto";
  const token = options.text("token") ?? environment(TOKEN_VARIABLE);
  const attached = options.has("attached");

  const ended = Promise.withResolvers<number>();
  onSignal((signal) => {
    if (!(attached && signal === "SIGINT")) ended.resolve(EXIT_CODES[signal]);
  });
  if (attached) onInputEnd(() => ended.resolve(0));

  const runtime = new NodeRuntime({
    name,
    transports: [tcp({ plaintext: insecure ? "everywhere" : "loopback" })],
    actors: { Device, Stage },
    ...(token === undefined ? {} : { token }),
  });
  try {
    const listening = await runtime.listen(address);
    const device = await runtime.spawn(Device, [name, engine], { name: DEVICE_NAME });
    runtime.monitor(device, ({ reason }) => {
      if (reason.code === "normal") return;
      standardError.write(`troupe: the device failed: ${reason.message}\n`);
      ended.resolve(1);
    });
    const { pid } = machine();
    standardOutput.write(
      options.has("json")
        ? `${JSON.stringify({ event: "listening", address: listening, name, pid })}\n`
        : `${name} listens on ${listening}\n`,
    );
    return await ended.promise;
  } finally {
    await runtime.close();
  }
}

/** Whether an address is beyond this machine. */
export function isRemote(address: string): boolean {
  const host = /^tcp:\/\/(\[[^\]]*\]|[^:/]+):\d+$/.exec(address)?.[1];
  return host !== undefined && !/^(localhost|127(\.\d+){3}|\[::1\])$/.test(host);
}
