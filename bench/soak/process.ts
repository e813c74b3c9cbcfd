/**
 * A process of a soak that is spoken to in lines, says events in lines of JSON, and is signalled from outside. None outlives
 * this one.
 */

import { linesOf } from "../child.ts";

export interface SoakEvent {
  readonly event: string;
  readonly [field: string]: any;
}

export interface SoakProcessOptions {
  readonly command: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
  onEvent(event: SoakEvent): void;
  /** A line on its standard error. */
  onError(line: string): void;
}

const living = new Set<Bun.Subprocess>();
process.on("exit", () => {
  for (const child of living) child.kill("SIGKILL");
});

export class SoakProcess {
  readonly pid: number;
  /** Resolves when it has ended and all it said has been told: with its exit code, or the signal. */
  readonly ended: Promise<string>;
  private readonly child: Bun.Subprocess<"pipe", "pipe", "pipe">;

  constructor({ command, environment, onEvent, onError }: SoakProcessOptions) {
    const child = Bun.spawn([...command], {
      ...{ stdin: "pipe", stdout: "pipe", stderr: "pipe" },
      env: { ...process.env, ...environment },
    });
    this.child = child;
    this.pid = child.pid;
    living.add(child);
    const read = async (stream: ReadableStream<Uint8Array>, take: (line: string) => void) => {
      for await (const line of linesOf(stream)) take(line);
    };
    const all = Promise.all([
      child.exited.then(() => living.delete(child)),
      read(child.stdout, (line) => onEvent(JSON.parse(line))),
      read(child.stderr, onError),
    ]);
    this.ended = all.then(() => `${child.signalCode ?? `exit code ${child.exitCode}`}`);
  }

  get isAlive(): boolean {
    return this.child.exitCode === null && this.child.signalCode === null;
  }

  say(line: string): void {
    if (!this.isAlive) return;
    this.child.stdin.write(`${line}\n`);
    this.child.stdin.flush();
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }

  /** Asks it to end by ending its input; resolves with how it did, by force after `patienceMs`. */
  async end(patienceMs: number): Promise<string> {
    this.child.stdin.end();
    const timer = setTimeout(() => this.child.kill("SIGKILL"), patienceMs);
    try {
      return await this.ended;
    } finally {
      clearTimeout(timer);
    }
  }
}
