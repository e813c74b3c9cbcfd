/** What a suite of the bench is. */

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Options, OptionTable } from "../cli/options.ts";
import type { Report } from "./report.ts";

export interface Suite {
  readonly name: string;
  /** One line for the list of suites. */
  readonly summary: string;
  readonly options: OptionTable;
  run(options: Options, context: SuiteContext): Promise<SuiteResult>;
}

export interface SuiteContext {
  /** A folder of its own, which goes when the bench ends. */
  readonly folder: string;
  /** Tells how far it is. */
  note(line: string): void;
}

export interface SuiteResult {
  readonly report: Report;
  /** Names and versions of what took part besides Bun and the engine. */
  readonly versions: readonly string[];
  /** Something that was to be shown did not hold: the command fails. */
  readonly failed?: boolean;
}

/** A folder that is removed when this process exits, however it does. */
export function temporaryFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "troupe-bench-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}
