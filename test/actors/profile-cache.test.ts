/** What a cache of profiles promises: the same device and work find theirs, nothing else does, and damage costs time only. */

import { expect, test } from "bun:test";
import type { DeviceDescription, ProfileRequest } from "../../actors/device.ts";
import { ProfileCache, profileKey } from "../../actors/profile-cache.ts";
import { DEFAULT_ADAMW } from "../../nn/index.ts";
import { rolesOf } from "../../nn/model.ts";
import type { ModelProfile } from "../../nn/profile.ts";
import { Tensor } from "../../protocols/tensor.ts";
import { FileError, type Files } from "../../runtime/platform/files.ts";

/** Files in memory, as far as a cache uses them. */
function memoryFiles() {
  const contents = new Map<string, Uint8Array>();
  const files = {
    read: async (path: string) => {
      const found = contents.get(path);
      if (!found) throw new FileError("missing", path, `cannot read ${path}: it does not exist`);
      return found;
    },
    makeFolder: async () => {},
    write: async (path: string, [bytes]: readonly Uint8Array[]) => void contents.set(path, bytes!),
  };
  return { contents, files: files as Partial<Files> as Files };
}

const PROFILE: ModelProfile = {
  segments: [{ forwardMs: 1, backwardMs: 2, jointMs: 3, stepMs: 4, stashBytes: 5, workingBytes: 6 }],
  chunk: { forwardMs: 0, backwardMs: 0, jointMs: 0, stepMs: 0, otherMs: 0.1 },
};
const DEVICE: DeviceDescription = {
  ...{
    name: "laptop",
    host: "home",
    cores: 4,
    memoryBytes: 2 ** 30,
    engine: "native",
    class: "laptop",
    pid: 7,
  },
};
const OPTIMIZER = { ...DEFAULT_ADAMW, steps: 10 };
const REQUEST: ProfileRequest = {
  graph: Tensor.zeros("u8", [8]),
  roles: rolesOf(["w"]),
  ...{ microBatches: 4, optimizer: OPTIMIZER, budgetMs: 100, split: false, sharings: [] },
};

test("a profile is found again by another process, until it is dropped or replaced", async () => {
  const { files } = memoryFiles();
  const open = () => new ProfileCache(files, "cache", () => {});
  expect(await open().get("a")).toBeUndefined();
  await open().put("a", PROFILE);
  await open().put("b", { ...PROFILE, chunk: { ...PROFILE.chunk, otherMs: 9 } });
  expect(await open().get("a")).toEqual(PROFILE);
  await open().put("b", PROFILE);
  expect(await open().get("b")).toEqual(PROFILE);
  await open().drop("a");
  expect([await open().get("a"), await open().get("b")]).toEqual([undefined, PROFILE]);
});

test("the profiles kept are the newest, and not more than so many", async () => {
  const { files, contents } = memoryFiles();
  const cache = new ProfileCache(files, "cache", () => {});
  for (let i = 0; i < 210; i++) await cache.put(`${i}`, PROFILE);
  const { entries } = JSON.parse(new TextDecoder().decode([...contents.values()][0]));
  expect(entries.length).toBe(200);
  expect([await cache.get("9"), await cache.get("10")]).toEqual([undefined, PROFILE]);
});

test.each([
  ["no JSON", "{"],
  ["another version", JSON.stringify({ format: 99, entries: [] })],
  ["no profile", JSON.stringify({ format: 1, entries: [{ key: "a", profile: {} }] })],
  [
    "a negative time",
    JSON.stringify({ format: 1, entries: [{ key: "a", profile: PROFILE }] }).replace(
      '"stepMs":4',
      '"stepMs":-4',
    ),
  ],
])("a damaged file is not used, noted in a line, and replaced: %s", async (_, text) => {
  const { files, contents } = memoryFiles();
  contents.set("cache/profiles.json", new TextEncoder().encode(text));
  const notes: string[] = [];
  const cache = new ProfileCache(files, "cache", (line) => notes.push(line));
  expect(await cache.get("a")).toBeUndefined();
  expect(notes).toEqual([
    "cache/profiles.json is damaged or of another version, and is not used: devices are measured anew",
  ]);
  await cache.put("a", PROFILE);
  expect(await cache.get("a")).toEqual(PROFILE);
});

test("a disk that takes no file is noted, and no error", async () => {
  const { files } = memoryFiles();
  const full = async () => {
    throw new FileError("full", "cache", "cannot write cache/profiles.json: the disk is full");
  };
  const notes: string[] = [];
  await new ProfileCache({ ...files, write: full }, "cache", (line) => notes.push(line)).put("a", PROFILE);
  expect(notes).toEqual([
    "profiles are not kept for the next run: cannot write cache/profiles.json: the disk is full",
  ]);
});

test("a key is of the device and the work, and of nothing else", () => {
  const key = profileKey(DEVICE, REQUEST);
  expect(profileKey({ ...DEVICE, pid: 8 }, { ...REQUEST })).toBe(key);
  const longer = { ...OPTIMIZER, learningRate: 1, warmup: 2, steps: 20, floor: 0.5 };
  expect(profileKey(DEVICE, { ...REQUEST, optimizer: longer })).toBe(key);
  const others = [
    profileKey({ ...DEVICE, host: "work" }, REQUEST),
    profileKey({ ...DEVICE, name: "phone" }, REQUEST),
    profileKey({ ...DEVICE, engine: "web" }, REQUEST),
    profileKey(DEVICE, { ...REQUEST, graph: Tensor.zeros("u8", [9]) }),
    profileKey(DEVICE, { ...REQUEST, microBatches: 8 }),
    profileKey(DEVICE, { ...REQUEST, roles: rolesOf([]) }),
    profileKey(DEVICE, { ...REQUEST, split: true }),
    profileKey(DEVICE, { ...REQUEST, optimizer: { ...OPTIMIZER, beta1: 0.5 } }),
  ];
  expect(new Set([key, ...others]).size).toBe(others.length + 1);
});
