/** Runs the real command line as a process of its own, and knows which processes it has left behind. */

import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";

const ROOT = join(import.meta.dir, "../..");

/** A model so small that a step takes milliseconds. */
export const TINY_GPT = [
  ...["--layers", "1", "--width", "32", "--heads", "2", "--context", "32", "--batch", "8"],
];
/** It, on a text that is small too. */
export const TINY = [...TINY_GPT, "--data", join(ROOT, "test/fixtures/text.txt")];

export interface Event {
  readonly event: string;
  readonly [field: string]: any;
}

let runs = 0;

/**
 * Profiles that these runs measure; the user's are left alone. All tests here share them, as the runs of one user do: most
 * train the same few models, and measuring takes longer than their steps.
 */
export const CACHE = join(ROOT, "node_modules/.cache");

export class Troupe {
  readonly process: Bun.Subprocess<"ignore", "pipe", "pipe">;
  /** Lines of standard output so far that are JSON objects. */
  readonly events: Event[] = [];
  out = "";
  /** In the environment of the process and all it starts. */
  private readonly mark = `TROUPE_TEST=${process.pid}-${runs++}`;
  private readonly waiting = new Set<() => void>();
  private readonly read: Promise<void>;
  private readonly err: Promise<string>;

  constructor(args: readonly string[]) {
    const [name, value] = this.mark.split("=") as [string, string];
    this.process = Bun.spawn([process.execPath, join(ROOT, "cli/main.ts"), ...args], {
      cwd: ROOT,
      env: { ...process.env, XDG_CACHE_HOME: CACHE, [name]: value },
      stdin: "ignore",
      stdout: "pipe",
      stderr: "pipe",
    });
    this.err = new Response(this.process.stderr).text();
    this.read = this.readOut();
  }

  /** Resolves when the process has ended and all its output is here. */
  async ended(): Promise<{ code: number; out: string; err: string; events: Event[] }> {
    const [code, err] = await Promise.all([this.process.exited, this.err, this.read]);
    return { code, out: this.out, err, events: this.events };
  }

  /** The first event that fits, as soon as it is there. @throws when the output ends without it. */
  async until(fits: (event: Event) => boolean): Promise<Event> {
    let over = false;
    this.read.then(() => {
      over = true;
      for (const wake of this.waiting) wake();
    });
    for (;;) {
      const found = this.events.find(fits);
      if (found) return found;
      if (over) throw new Error(`ended without the event: ${this.out}${await this.err}`);
      await new Promise<void>((wake) => this.waiting.add(wake));
    }
  }

  /** The first line of standard output. @throws when the output ends without one. */
  async untilLine(): Promise<string> {
    let over = false;
    this.read.then(() => {
      over = true;
      for (const wake of this.waiting) wake();
    });
    while (!this.out.includes("\n")) {
      if (over) throw new Error(`ended without a line: ${this.out}${await this.err}`);
      await new Promise<void>((wake) => this.waiting.add(wake));
    }
    return this.out.slice(0, this.out.indexOf("\n") + 1);
  }

  /** Pids of living processes that it has started, itself included. Linux tells; elsewhere none are found. */
  living(): number[] {
    if (process.platform !== "linux") return [];
    const marked = (pid: string) => {
      try {
        return readFileSync(`/proc/${pid}/environ`, "utf8").split("\0").includes(this.mark);
      } catch {
        return false;
      }
    };
    return readdirSync("/proc")
      .filter((name) => /^\d+$/.test(name) && marked(name))
      .map(Number);
  }

  /** Resolves when no process is left; the test's own timeout says when that takes too long. */
  async allGone(): Promise<void> {
    while (this.living().length > 0) await Bun.sleep(20);
  }

  /** For `afterEach`: whatever the test left. */
  destroy(): void {
    for (const pid of this.living()) {
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has ended meanwhile.
      }
    }
  }

  private async readOut(): Promise<void> {
    const decoder = new TextDecoder();
    let rest = "";
    for await (const chunk of this.process.stdout) {
      const text = decoder.decode(chunk, { stream: true });
      this.out += text;
      const lines = (rest + text).split("\n");
      rest = lines.pop()!;
      for (const line of lines) if (line.startsWith("{")) this.events.push(JSON.parse(line));
      for (const wake of this.waiting) wake();
    }
  }
}

/** Runs to the end. */
export async function troupe(...args: readonly string[]) {
  const started = new Troupe(args);
  const ended = await started.ended();
  const left = started.living();
  started.destroy();
  return { ...ended, left };
}
