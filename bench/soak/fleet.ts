/** The devices of a soak: real `troupe node` processes, which are started again at the same address when they were killed. */

import { join } from "node:path";
import { SoakProcess } from "./process.ts";

const MAIN = join(import.meta.dir, "../../cli/main.ts");

export interface FleetOptions {
  readonly patienceMs: number;
  readonly environment: Readonly<Record<string, string>>;
  note(line: string): void;
}

export class FleetNode {
  readonly name: string;
  /** It is never killed. */
  readonly steady: boolean;
  /** Whether the coordinator has it. */
  isHere = false;
  /** Whether it runs, and is not held still. */
  isUp = false;
  address = "tcp://127.0.0.1:0";
  /** Every process that it has been. */
  readonly pids: number[] = [];
  private readonly options: FleetOptions;
  private process: SoakProcess | undefined;

  constructor(name: string, steady: boolean, options: FleetOptions) {
    this.name = name;
    this.steady = steady;
    this.options = options;
  }

  get pid(): number {
    return this.process!.pid;
  }

  /** Resolves when it listens. @throws when it ends before. */
  async start(): Promise<void> {
    const listening = Promise.withResolvers<string>();
    const { patienceMs, environment, note } = this.options;
    const started = new SoakProcess({
      command: [
        ...[process.execPath, MAIN, "node", "--json", "--attached", "--chaos", "--name", this.name],
        ...["--listen", this.address, "--patience", `${patienceMs}`],
      ],
      environment,
      onEvent: ({ address }) => listening.resolve(address),
      onError: (line) => note(`${this.name}: ${line}`),
    });
    this.process = started;
    this.pids.push(started.pid);
    started.ended.then((how) => {
      if (this.process === started) this.isUp = false;
      listening.reject(new Error(`${this.name} ended with ${how} before it listened`));
    });
    this.address = await listening.promise;
    this.isUp = true;
  }

  kill(): void {
    this.isUp = false;
    this.process!.signal("SIGKILL");
  }

  stop(): void {
    this.isUp = false;
    this.process!.signal("SIGSTOP");
  }

  goOn(): void {
    this.isUp = true;
    this.process!.signal("SIGCONT");
  }

  get ended(): Promise<string> {
    return this.process!.ended;
  }

  /** Whether it ended by itself when it was asked to. */
  async end(patienceMs: number): Promise<boolean> {
    return (await this.process!.end(patienceMs)) === "exit code 0";
  }
}
