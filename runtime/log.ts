/** What a person running a node should know: crashes, restarts, lost links. One entry is one line. */

import { asError } from "./errors.ts";

/** One line for people. */
export interface LogEntry {
  /** `info` is worth nothing but to who looks for it; an `error` needs somebody to do something. */
  readonly level: "info" | "warn" | "error";
  /** Without the error's own words. */
  readonly message: string;
  /** What it is about, with its stack. */
  readonly error?: Error;
}

/** Takes entries as they come. Called on the node's own thread: it should not take long. */
export type Log = (entry: LogEntry) => void;

/** Warnings and errors, one line each, on standard error. */
export const consoleLog: Log = ({ level, message, error }) => {
  if (level !== "info") console.error(error ? `${message}: ${error.name}: ${error.message}` : message);
};

/** A log that does not throw: what `log` fails to take goes to the console, with the reason. */
export function guarded(log: Log): Log {
  return (entry) => {
    try {
      log(entry);
    } catch (error) {
      consoleLog(entry);
      consoleLog({ level: "error", message: "the node's log failed", error: asError(error) });
    }
  };
}
