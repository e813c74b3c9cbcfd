/**
 * Child processes that never outlive their parent. Each is told to end by the end of its standard input, which
 * also comes when the parent is killed; one that does not end in time is killed, and so are all that are left when
 * the parent exits for whatever reason.
 */

import { type ChildProcess, spawn } from "node:child_process";
import { systemClock } from "../clock.ts";

export interface ChildCommand {
  readonly command: readonly [string, ...string[]];
  /** Set in the child's environment beside what this process has. */
  readonly environment: Readonly<Record<string, string>>;
  /** Lines of its standard output and error, without line ends. */
  readonly onOutput: (line: string) => void;
  readonly onError: (line: string) => void;
}

export interface Child {
  readonly pid: number;
  /** Resolves with how it ended, for people: "exit code 1", "SIGKILL". Never rejects. */
  readonly ended: Promise<string>;
  /** Asks it to end and resolves when it has, by force after `patienceMs`. Idempotent. */
  end(patienceMs: number): Promise<void>;
}

const living = new Set<ChildProcess>();
process.on("exit", () => {
  for (const child of living) child.kill("SIGKILL");
});

/** Starts a child. A command that cannot be started counts as one that ended at once. */
export function startChild({ command, environment, onOutput, onError }: ChildCommand): Child {
  const [program, ...args] = command;
  const child = spawn(program, args, {
    env: { ...process.env, ...environment },
    stdio: ["pipe", "pipe", "pipe"],
  });
  living.add(child);
  splitLines(child.stdout, onOutput);
  splitLines(child.stderr, onError);
  child.stdin.on("error", () => {}); // It ended before it was asked to.
  const ended = new Promise<string>((resolve) => {
    const end = (how: string) => {
      living.delete(child);
      resolve(how);
    };
    child.on("error", (error) => end(error.message));
    // "close" comes after the last of its output.
    child.on("close", (code, signal) => end(signal ?? `exit code ${code}`));
  });
  let ending: Promise<void> | undefined;
  const finish = async (patienceMs: number) => {
    child.stdin.end();
    const timer = systemClock.setTimer(() => child.kill("SIGKILL"), patienceMs);
    await ended;
    systemClock.clearTimer(timer);
  };
  return {
    pid: child.pid ?? 0,
    ended,
    end: (patienceMs) => {
      ending ??= finish(patienceMs);
      return ending;
    },
  };
}

function splitLines(stream: NodeJS.ReadableStream, onLine: (line: string) => void): void {
  let rest = "";
  stream.setEncoding("utf8");
  stream.on("data", (text: string) => {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) onLine(line);
  });
  stream.on("end", () => {
    if (rest !== "") onLine(rest);
  });
}
