/**
 * This process, as a command line sees it: what it was given, where it writes, and how it is told to end.
 * Arguments are parsed by the `parseArgs` that Bun, Deno and Node.js share.
 */

import { execPath } from "node:process";
import { fileURLToPath } from "node:url";
import { systemClock } from "../clock.ts";

export { parseArgs } from "node:util";

/** A stream for text. */
export interface Output {
  write(text: string): void;
  /** Whether a person reads along. */
  readonly terminal: boolean;
  /** Whether colours are wanted: on a terminal, unless NO_COLOR is set (https://no-color.org). */
  readonly colours: boolean;
  /** Columns of the terminal now. */
  columns(): number;
}

export type Signal = "SIGINT" | "SIGTERM" | "SIGHUP";

const SIGNALS: readonly Signal[] = ["SIGINT", "SIGTERM", "SIGHUP"];

/** What shells say of a process that such a signal has ended. */
export const EXIT_CODES: Readonly<Record<Signal, number>> = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 };

export const standardOutput: Output = output(process.stdout);
export const standardError: Output = output(process.stderr);

export function processArguments(): readonly string[] {
  return process.argv.slice(2);
}

export function environment(name: string): string | undefined {
  return process.env[name];
}

/** Calls back for each signal that asks this process to end; it ends no more by itself. */
export function onSignal(callback: (signal: Signal) => void): void {
  for (const signal of SIGNALS) process.on(signal, () => callback(signal));
}

/** Calls back once when standard input ends: whoever held its other end is gone. Reads and drops what comes. */
export function onInputEnd(callback: () => void): void {
  let called = false;
  const once = () => {
    if (!called) callback();
    called = true;
  };
  process.stdin.on("end", once);
  process.stdin.on("close", once);
  process.stdin.on("error", once);
  process.stdin.resume();
}

/** How often is looked whether a process is there. */
const LOOK_MS = 1000;

/** Calls back once when the process that has started this one, and said so as TROUPE_STARTED_BY, is gone without a word. */
export function onStarterGone(callback: () => void): void {
  const starter = process.ppid;
  if (process.env.TROUPE_STARTED_BY !== `${starter}`) return;
  const look = () => {
    if (process.ppid === starter) systemClock.setTimer(look, LOOK_MS);
    else callback();
  };
  look();
}

/** Calls back when nobody reads standard output any more, as under `| head -1`. */
export function onOutputClosed(callback: () => void): void {
  process.stdout.on("error", callback);
}

/** Ends this process after what it has written is out. */
export async function exit(code: number): Promise<never> {
  const written = (stream: NodeJS.WriteStream) =>
    new Promise<void>((resolve) => {
      if (!stream.writable || stream.errored) resolve();
      else stream.write("", () => resolve());
    });
  await Promise.all([written(process.stdout), written(process.stderr)]);
  process.exit(code);
}

/**
 * Ends this process at once, holds it still until somebody lets it go on, or tells it that its terminal is gone; as if from
 * outside, so nothing is closed.
 */
export function signalSelf(signal: "SIGKILL" | "SIGSTOP" | "SIGHUP"): void {
  process.kill(process.pid, signal);
}

/** Holds this thread still for so long: it does nothing, and hears nothing. */
export function standStill(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

/** The command line that runs another script with the present runtime. */
export function scriptCommand(script: URL): readonly [string, ...string[]] {
  const path = fileURLToPath(script);
  return process.versions.deno ? [execPath, "run", "--allow-all", path] : [execPath, path];
}

function output(stream: NodeJS.WriteStream): Output {
  const terminal = stream.isTTY === true;
  return {
    write: (text) => {
      if (!stream.errored) stream.write(text);
    },
    terminal,
    colours: terminal && !process.env.NO_COLOR && process.env.TERM !== "dumb",
    columns: () => stream.columns || 80,
  };
}
