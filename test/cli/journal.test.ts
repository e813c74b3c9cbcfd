/** A run's journal that is not what it was: what is said of it, and what there is to go on with. */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { abandonedRun } from "../../cli/journal.ts";
import { Options } from "../../cli/options.ts";
import { files } from "../../runtime/platform/files.ts";

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "troupe-journal-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A run's folder with a journal of no bytes. */
function lost(name: string, ...others: readonly string[]): string {
  const run = join(folder, name);
  mkdirSync(run);
  for (const file of ["journal.sqlite", ...others]) writeFileSync(join(run, file), "");
  return run;
}

async function found(option: "out" | "resume", run: string) {
  const told: string[] = [];
  const abandoned = await abandonedRun(new Options(new Map([[option, [run]]])), files, (line) =>
    told.push(line),
  );
  return { abandoned, told };
}

test("a journal that was lost is told, and the run goes on from its checkpoint", async () => {
  const run = lost("emptied", "plan.json");
  const said = `${run}/journal.sqlite has no run in it: what that had come to behind its last checkpoint is lost`;
  expect(await found("out", run)).toEqual({ abandoned: null, told: [said] });
  mkdirSync(join(run, "checkpoint"));
  writeFileSync(join(run, "checkpoint/state.json"), "{}");
  expect(await found("resume", run)).toEqual({ abandoned: null, told: [said] });
});

test("where there is no checkpoint either there is nothing to go on with; a run that never began is no news", async () => {
  const run = lost("nothing");
  expect(await found("out", run)).toEqual({ abandoned: null, told: [] });
  const refused = `${run} has nothing to go on with: ${run}/journal.sqlite has no run that has begun, and there is no checkpoint: start the run anew`;
  await expect(found("resume", run)).rejects.toThrow(refused);
});
