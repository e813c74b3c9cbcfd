/** What a command of `troupe` is, and how one fails. */

import type { OptionTable } from "./options.ts";

export interface Command {
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  readonly options: OptionTable;
  /** More for `--help`, below the options. */
  readonly notes: readonly string[];
  /** Runs the command; resolves with the exit code. @throws errors with a `code` and one line for people. */
  run(args: readonly string[]): Promise<number>;
}

export type CommandErrorCode =
  /** What was typed is wrong. */
  | "USAGE"
  /** A device could not be started or joined. */
  | "LAUNCH"
  /** A run failed that can be gone on with. */
  | "RUN"
  /** The command was told to end. */
  | "INTERRUPTED";

/** A failure told in one line: what is wrong, and what would be right. */
export class CommandError extends Error {
  override readonly name: string = "CommandError";
  readonly code: CommandErrorCode;
  readonly exitCode: number;

  constructor(code: CommandErrorCode, message: string, exitCode: number) {
    super(message);
    this.code = code;
    this.exitCode = exitCode;
  }
}

export class UsageError extends CommandError {
  override readonly name = "UsageError";

  constructor(message: string) {
    super("USAGE", message, 2);
  }
}

export class LaunchError extends CommandError {
  override readonly name = "LaunchError";

  constructor(message: string) {
    super("LAUNCH", message, 1);
  }
}
