/** The coordinator of a soak as the soak sees it: a process that is started again, with the same words, whenever it was killed. */

import { join } from "node:path";
import type { SoakSettings } from "./coordinator.ts";
import type { FleetNode } from "./fleet.ts";
import { type SoakEvent, SoakProcess } from "./process.ts";

const SCRIPT = join(import.meta.dir, "coordinator.ts");
/** Devices that are there are joined by then. */
const JOIN_MS = 20_000;

export interface LeaderOptions {
  readonly settings: SoakSettings;
  readonly environment: Readonly<Record<string, string>>;
  readonly nodes: readonly FleetNode[];
  started(pid: number): void;
  hear(event: SoakEvent): void;
  /** It ended, and nobody had asked for that. */
  died(how: string): void;
  note(line: string): void;
}

export class Leader {
  private readonly options: LeaderOptions;
  private process: SoakProcess | undefined;

  constructor(options: LeaderOptions) {
    this.options = options;
  }

  get isAlive(): boolean {
    return this.process !== undefined;
  }

  /** Starts it, and resolves when it has all devices that are up, or is not there any more: with whether it is. */
  async start(): Promise<boolean> {
    const { settings, environment, nodes, started, hear, died, note } = this.options;
    const ready = Promise.withResolvers<void>();
    const own = new SoakProcess({
      command: [process.execPath, SCRIPT, JSON.stringify(settings)],
      environment,
      onEvent: (event) => {
        if (event.event === "ready") ready.resolve();
        // What it said before it was killed is not of the run any more.
        if (this.process === own) hear(event);
      },
      onError: (line) => note(`coordinator: ${line}`),
    });
    this.process = own;
    started(own.pid);
    own.ended.then((how) => {
      ready.resolve();
      if (this.process !== own) return;
      this.process = undefined;
      died(how);
    });
    await ready.promise;
    const isThere = () => this.process === own;
    if (!isThere()) return false;
    for (const node of nodes) {
      node.isHere = false;
      if (node.isUp) this.say(`join ${node.address}`);
    }
    const deadline = performance.now() + JOIN_MS;
    while (isThere() && nodes.some((node) => node.isUp && !node.isHere) && performance.now() < deadline) {
      await Bun.sleep(20);
    }
    return isThere();
  }

  /** Where there is none now, the words are lost. */
  say(line: string): void {
    this.process?.say(line);
  }

  /** Holds it still, until it is to go on, if it is still there then; resolves when that was asked for. */
  async stop(forMs: number): Promise<void> {
    const { process } = this;
    process?.signal("SIGSTOP");
    await Bun.sleep(forMs);
    process?.signal("SIGCONT");
  }

  kill(): void {
    const { process } = this;
    this.process = undefined;
    process?.signal("SIGKILL");
  }

  /** Whether it ended by itself when it was asked to. */
  async end(patienceMs: number): Promise<boolean> {
    const { process } = this;
    this.process = undefined;
    return process === undefined || (await process.end(patienceMs)) === "exit code 0";
  }
}
