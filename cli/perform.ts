/**
 * `troupe <command>`: finds the command, gives help, and turns whatever goes wrong into one line and an exit code.
 * 0 is success, 1 a failure, 2 something wrong with what was typed, 128 + n the end by signal n.
 *
 * An error with a code is one somebody foresaw, and its message is for people. Any other is a defect: its stack
 * is shown.
 */

import { standardError, standardOutput } from "../runtime/platform/process.ts";
import { type Command, CommandError, UsageError } from "./command.ts";
import { nearest } from "./nearest.ts";
import { describeOptions } from "./options.ts";

/** By name. One is loaded when it is wanted: a run starts a process for every device, and none of them needs what it does. */
const COMMANDS: Readonly<Record<string, () => Promise<Command>>> = {
  train: async () => (await import("./train.ts")).train,
  plan: async () => (await import("./plan.ts")).plan,
  node: async () => (await import("./node.ts")).node,
  token: async () => (await import("./token.ts")).token,
};

async function help(): Promise<string> {
  const commands = await Promise.all(Object.values(COMMANDS).map((load) => load()));
  const width = Math.max(...commands.map(({ name }) => name.length));
  return [
    "troupe: train neural networks together on the devices you already have",
    "",
    "usage: troupe <command> [options]",
    "",
    ...commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`),
    "",
    "Inside a clone, npx bun run troupe bench <suite> measures; npx bun run bench --help lists the suites.",
    "troupe <command> --help tells about its options.",
    "",
  ].join("\n");
}

function helpOf({ name, summary, options, notes }: Command): string {
  return [`troupe ${name}: ${summary}`, "", ...describeOptions(options), "", ...notes, ""].join("\n");
}

async function main(args: readonly string[]): Promise<number> {
  const [name, ...rest] = args;
  if (name === undefined || name === "--help" || name === "-h" || name === "help") {
    standardOutput.write(await help());
    return name === undefined ? 2 : 0;
  }
  if (!Object.hasOwn(COMMANDS, name)) {
    const names = Object.keys(COMMANDS);
    throw new UsageError(
      `there is no command "${name}"; the nearest is ${nearest(name, names)}, all are ${names.join(", ")}`,
    );
  }
  const command = await COMMANDS[name]!();
  if (rest.includes("--help") || rest.includes("-h")) {
    standardOutput.write(helpOf(command));
    return 0;
  }
  return command.run(rest);
}

/** One line on standard error, and an event on standard output for programs that read events. */
function report(error: unknown, json: boolean): number {
  const { code, message = "", stack } = error as { code?: unknown; message?: string; stack?: string };
  const line = message.split("\n")[0]!;
  const foreseen = typeof code === "string" && line !== "";
  if (json)
    standardOutput.write(`${JSON.stringify({ event: "error", message: foreseen ? line : `${error}` })}\n`);
  standardError.write(`troupe: ${foreseen ? line : (stack ?? error)}\n`);
  return error instanceof CommandError ? error.exitCode : 1;
}

/** Does what was typed after `troupe`. @returns the exit code. */
export function perform(args: readonly string[]): Promise<number> {
  return main(args).catch((error) => report(error, args.includes("--json")));
}
