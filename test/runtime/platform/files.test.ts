import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FileError, files } from "../../../runtime/platform/files.ts";
import { sha256 } from "../../../runtime/platform/hash.ts";

let folder = "";
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "troupe-files-"));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

const bytes = (text: string) => new TextEncoder().encode(text);
const failure = (work: Promise<unknown>) =>
  work.then(
    () => undefined,
    (error) => error as FileError,
  );

describe("files", () => {
  test("write joins the chunks, replaces what was there and leaves nothing beside it", async () => {
    const path = join(folder, "a.bin");
    await files.write(path, [bytes("old and longer")]);
    await files.write(path, [bytes("one "), bytes("two"), new Uint8Array(0)]);
    expect(await files.read(path)).toEqual(Buffer.from("one two"));
    expect(await files.list(folder)).toEqual(["a.bin"]);
    await files.remove(path);
    expect(await files.exists(path)).toBe(false);
    await files.remove(path);
  });

  test("a range is read alone, and ends where the file does", async () => {
    const path = join(folder, "range.bin");
    await files.write(path, [bytes("0123456789")]);
    expect(await files.size(path)).toBe(10);
    expect(await files.readRange(path, 2, 5)).toEqual(bytes("234"));
    expect(await files.readRange(path, 8, 20)).toEqual(bytes("89"));
    expect(await files.readRange(path, 12, 20)).toEqual(bytes(""));
    expect((await failure(files.readRange(join(folder, "none"), 0, 1)))?.reason).toBe("missing");
    await files.remove(path);
  });

  test("a link is followed to where it leads", async () => {
    await writeFile(join(folder, "target"), "x");
    await symlink(join(folder, "target"), join(folder, "link"));
    expect(await files.realPath(join(folder, "link"))).toBe(await files.realPath(join(folder, "target")));
    expect((await failure(files.realPath(join(folder, "none"))))?.reason).toBe("missing");
    for (const name of ["link", "target"]) await files.remove(join(folder, name));
  });

  test("a failed write leaves the old file and no temporary one", async () => {
    const path = join(folder, "b");
    await files.makeFolder(join(path, "inner"));
    const error = await failure(files.write(path, [bytes("x")]));
    expect(error).toBeInstanceOf(FileError);
    expect(await files.list(folder)).toEqual(["b"]);
    await files.remove(path);
  });

  test("errors are one line with the path and a reason", async () => {
    const missing = join(folder, "none.txt");
    const error = await failure(files.read(missing));
    expect(error?.reason).toBe("missing");
    expect(error?.message).toBe(`cannot read ${missing}: it does not exist`);
    expect((await failure(files.read(folder)))?.reason).toBe("folder");
    await writeFile(join(folder, "f"), "x");
    expect((await failure(files.makeFolder(join(folder, "f", "g"))))?.reason).toBe("not-a-folder");
    expect((await failure(files.makeFolder(join(folder, "f"))))?.reason).toBe("not-a-folder");
    expect((await failure(files.write(join(folder, "f", "g"), [])))?.reason).toBe("not-a-folder");
  });

  test("a package is found by module resolution, and a missing one is named", () => {
    expect(files.packageFolder("bun-types")).toEndWith("bun-types");
    expect(files.packageFolder("@types/node", "bun-types")).toEndWith("node");
    expect(() => files.packageFolder("no-such-package")).toThrow("package no-such-package is not installed");
  });
});

test("sha256 sees one stream, however it is cut", () => {
  const known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
  expect(sha256(["abc"])).toBe(known);
  expect(sha256([bytes("a"), new Uint8Array(0), bytes("bc")])).toBe(known);
});
