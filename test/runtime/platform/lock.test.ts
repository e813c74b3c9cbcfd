import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtemp, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FileError } from "../../../runtime/platform/files.ts";
import { lock } from "../../../runtime/platform/lock.ts";

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), "troupe-lock-"));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

test("a folder is one process's until it is released", async () => {
  const path = join(folder, ".lock");
  const release = await lock(path);
  const refused = await lock(path).catch((error) => error);
  expect(refused).toBeInstanceOf(FileError);
  expect(refused.message).toContain(`process ${process.pid} is using this folder`);
  await release();
  expect(await readdir(folder)).toEqual([]);
  await (await lock(path))();
});

test("the lock of a process that was killed is taken over", async () => {
  const child = Bun.spawn([process.execPath, "-e", ""]);
  await child.exited;
  const path = join(folder, ".lock");
  await writeFile(path, `${child.pid}\n`);
  await (await lock(path))();
  expect(await readdir(folder)).toEqual([]);
});
