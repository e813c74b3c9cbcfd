/**
 * The system's own tools and the files of the kernel, for whoever builds a testbed of them: commands run to their end,
 * values written and read back. Everything fails with one line that names the command or the file.
 */

import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { TestbedError } from "./error.ts";

/** Runs a command. @throws TestbedError with what it said. */
export function command(...words: readonly string[]): string {
  const failure = (why: string) => new TestbedError(`${words.join(" ")}: ${why}`);
  let result: Bun.SyncSubprocess<"pipe", "pipe">;
  try {
    result = Bun.spawnSync([...words], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
  } catch (error) {
    throw failure((error as Error).message);
  }
  if (result.exitCode === 0) return result.stdout.toString();
  throw failure(result.stderr.toString().trim().split("\n").at(-1) || `exit code ${result.exitCode}`);
}

/** Writes a value into a file of the kernel. @throws TestbedError where the kernel refuses it. */
export function writeValue(path: string, value: string | number): void {
  try {
    writeFileSync(path, `${value}`);
  } catch (error) {
    throw new TestbedError(`cannot write ${value} to ${path}: ${(error as Error).message}`);
  }
}

/** Writes a value, and reads it back: some are refused or rounded in silence. @throws TestbedError for another one. */
export function setValue(path: string, value: number): void {
  writeValue(path, value);
  const came = readValue(path);
  if (came !== `${value}`) throw new TestbedError(`${path} is ${came} after ${value} was written to it`);
}

/** @throws TestbedError. */
export function readValue(path: string): string {
  try {
    return readFileSync(path, "utf8").trim();
  } catch (error) {
    throw new TestbedError(`cannot read ${path}: ${(error as Error).message}`);
  }
}

/** Names in a folder; none where there is no such folder. */
export function namesIn(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
