/** What the parts of the suite `train` have in common. */

import type { Section } from "../report.ts";
import type { Workload } from "../workload.ts";

export interface PartContext {
  readonly workload: Workload;
  readonly rounds: number;
  /** Steps of each contender in a round. */
  readonly steps: number;
  /** Also measure PyTorch with torch.compile. */
  readonly compile: boolean;
  readonly folder: string;
  note(line: string): void;
}

export interface PartResult {
  readonly sections: readonly Section[];
  readonly figures: Readonly<Record<string, unknown>>;
  readonly versions?: readonly string[];
}

export type Part = (context: PartContext) => Promise<PartResult>;

/** Things to close, last opened first, on every way out. */
export class Opened {
  private readonly closers: (() => Promise<void>)[] = [];

  add<T extends { close(): Promise<void> }>(thing: T): T {
    this.closers.unshift(() => thing.close());
    return thing;
  }

  async close(): Promise<void> {
    for (const close of this.closers.splice(0)) await close();
  }
}
