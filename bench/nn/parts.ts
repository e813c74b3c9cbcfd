/** What the parts of the suite `nn` have in common. */

import type { Section } from "../report.ts";

export interface NnContext {
  readonly rounds: number;
  /** Steps of each contender in a round. */
  readonly steps: number;
  /** Tiny sizes: tries the bench, says nothing about speed. */
  readonly quick: boolean;
  readonly folder: string;
  note(line: string): void;
}

export interface NnResult {
  readonly sections: readonly Section[];
  readonly figures: Readonly<Record<string, unknown>>;
  readonly versions?: readonly string[];
}
