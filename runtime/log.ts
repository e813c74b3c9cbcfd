/** What a person running a node should know: crashes, restarts, lost links. One entry is one line. */

export interface LogEntry {
  readonly level: "info" | "warn" | "error";
  readonly message: string;
  readonly error?: Error;
}

export type Log = (entry: LogEntry) => void;

/** Warnings and errors, one line each, on standard error. */
export const consoleLog: Log = ({ level, message, error }) => {
  if (level !== "info") console.error(error ? `${message}: ${error.name}: ${error.message}` : message);
};
