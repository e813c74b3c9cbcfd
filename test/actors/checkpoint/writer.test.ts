/** What is promised of checkpoints wherever they are kept, in folders and in buckets alike. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { openStore } from "../../../actors/checkpoint/store.ts";
import { CheckpointWriter, type Draft } from "../../../actors/checkpoint/writer.ts";
import { type Damage, readCheckpoint, weightsSha256 } from "../../../actors/checkpoint.ts";
import { encodeSafetensors } from "../../../nn/weights/safetensors.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { type Files, files } from "../../../runtime/platform/files.ts";
import { sha256 } from "../../../runtime/platform/hash.ts";
import { S3Server } from "./s3-server.ts";

let root = "";
let server: S3Server;
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "troupe-checkpoints-"));
  server = new S3Server().open();
});
afterEach(async () => {
  await server.close();
  await rm(root, { recursive: true, force: true });
});

const model = (step: number) => ({
  "h.0.w": Tensor.f32([2, 2], [1, 2, 3, step]),
  "h.1.w": Tensor.f32([3], [step, 0, 1]),
  "h.1.b": Tensor.f32([1], [step]),
});
const optimizer = (step: number) => ({
  "m.h.0.w": Tensor.f32([2, 2], [step, step, 0, 0]),
  "m.h.1.w": Tensor.f32([3], [0, step, 1]),
});

function draft(step: number): Draft {
  const values: Record<string, Tensor> = { ...model(step), ...optimizer(step) };
  return {
    ...{ step, seed: 7, model: { kind: "gpt" }, training: { batch: 16 } },
    shards: [
      { model: ["h.0.w"], optimizer: ["m.h.0.w"] },
      { model: ["h.1.w", "h.1.b"], optimizer: ["m.h.1.w"] },
    ],
    values: async (names) => Object.fromEntries(names.map((name) => [name, values[name]!])),
    onnx: async () => Uint8Array.of(step, 8, 7),
  };
}

const expected = (step: number) => ({
  ...{ step, seed: 7, model: { kind: "gpt" }, training: { batch: 16 } },
  parameters: new Map(Object.entries(model(step))),
  optimizer: new Map(Object.entries(optimizer(step))),
});

const FILES = [
  ...["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.onnx"],
  ...["model.safetensors.index.json", "optimizer-00001-of-00002.safetensors"],
  ...["optimizer-00002-of-00002.safetensors", "state.json"],
];

/** A place, and what is to be done to it from outside. */
interface Place {
  readonly place: string;
  /** `files` of a writer that is killed at a change of what is kept, and ever after. */
  killedAt(limit: number): Files;
  revived(): void;
  /** Paths of the checkpoints that are there, the newest first, as those of others are named from it. */
  paths(steps: readonly number[]): string[];
  /** Changes the last byte of a file, or takes it off. */
  damage(path: string, name: string, how: "changed" | "truncated" | "removed"): Promise<void>;
  names(path: string): Promise<string[]>;
  /** All that is there. */
  everything(): Promise<string[]>;
}

const PLACES: Record<string, () => Place> = {
  "in folders": () => {
    const place = join(root, "checkpoint");
    return {
      place,
      killedAt: (limit) => {
        let changes = 0;
        const change =
          <A extends unknown[]>(work: (...args: A) => Promise<void>) =>
          async (...args: A) => {
            if (changes++ >= limit) throw new Error("killed");
            await work(...args);
          };
        const { write, rename, remove, makeFolder } = files;
        return {
          ...files,
          write: change(write),
          rename: change(rename),
          remove: change(remove),
          makeFolder: change(makeFolder),
        };
      },
      revived: () => {},
      paths: (steps) => steps.map((step, i) => (i === 0 ? place : `${place}.step-${step}`)),
      damage: async (path, name, how) => {
        const file = join(path, name);
        const bytes = await readFile(file);
        bytes[bytes.length - 3]! ^= 1;
        if (how === "removed") await rm(file);
        else await writeFile(file, how === "changed" ? bytes : bytes.subarray(0, -1));
      },
      names: async (path) => (await files.list(path)).sort(),
      everything: async () => (await files.list(root)).sort(),
    };
  },
  "in a bucket": () => {
    const key = (path: string) => path.slice("s3://".length);
    const place = "s3://mine/runs/first";
    return {
      place,
      killedAt: (limit) => {
        server.changes = limit;
        return files;
      },
      revived: () => {
        server.changes = Number.POSITIVE_INFINITY;
      },
      paths: (steps) => steps.map((step) => `${place}/step-${step}`),
      damage: async (path, name, how) => {
        const object = `${key(path)}/${name}`;
        const bytes = server.objects.get(object)!.slice();
        bytes[bytes.length - 3]! ^= 1;
        if (how === "removed") server.objects.delete(object);
        else server.objects.set(object, how === "changed" ? bytes : bytes.subarray(0, -1));
      },
      names: async (path) =>
        [...server.objects.keys()]
          .filter((each) => each.startsWith(`${key(path)}/`))
          .map((each) => basename(each))
          .sort(),
      everything: async () => [...server.objects.keys()].sort(),
    };
  },
};

const writer = (place: string, keep: number, from = 0, through: Files = files) =>
  new CheckpointWriter(openStore(through, place), { keep, from });

/** What is read, and what was said of damage. */
async function read(place: string): Promise<{ step: number; told: Damage[] }> {
  const told: Damage[] = [];
  const found = await readCheckpoint(files, place, (damage) => told.push(damage));
  expect(found).toEqual(expected(found.step));
  return { step: found.step, told };
}

describe.each(Object.entries(PLACES))("checkpoints %s", (_, open) => {
  test("have a file for each shard, and come back whole", async () => {
    const { place, paths, names } = open();
    const weights = await writer(place, 1).write(draft(3));
    expect(weights).toBe(weightsSha256(expected(3).parameters));
    const [path] = paths([3]) as [string];
    expect(await names(path)).toEqual(FILES);
    expect(await read(place)).toEqual({ step: 3, told: [] });
    expect(await read(path)).toEqual({ step: 3, told: [] });
  });

  test("are kept as many as asked, and each can be resumed from", async () => {
    const { place, paths, everything } = open();
    const own = writer(place, 3);
    for (const step of [2, 4, 10, 12]) await own.write(draft(step));
    const kept = paths([12, 10, 4]);
    expect((await openStore(files, place).list()).map(({ path }) => path)).toEqual(kept);
    for (const [i, path] of kept.entries()) expect((await read(path)).step).toBe([12, 10, 4][i]!);
    // One that is resumed with fewer.
    await writer(place, 1, 12).write(draft(14));
    expect(await openStore(files, place).list()).toHaveLength(1);
    expect((await everything()).filter((name) => /step-(2|4|10|12)\b/.test(name))).toEqual([]);
  });

  test("are there, the old or the new, wherever a writer is killed; the next leaves nothing of it", async () => {
    const { place, killedAt, revived, everything } = open();
    const seen = new Set<number>();
    let done = false;
    for (let limit = 0; !done; limit++) {
      for (const { path } of await openStore(files, place).list()) await openStore(files, place).remove(path);
      const first = writer(place, 2);
      for (const step of [1, 2]) await first.write(draft(step));
      const alone = await everything();
      done = await writer(place, 2, 2, killedAt(limit))
        .write(draft(3))
        .then(
          () => true,
          () => false,
        );
      revived();
      const { step, told } = await read(place);
      expect(told).toEqual([]);
      expect([2, 3]).toContain(step);
      seen.add(step);
      const second = writer(place, 2, step);
      await second.write(draft(4));
      expect((await read(place)).step).toBe(4);
      const steps = (names: readonly string[]) => names.map((name) => name.replace(/step-\d+/, "step"));
      expect(steps(await everything())).toEqual(steps(alone));
    }
    expect([...seen].sort()).toEqual([2, 3]);
  });

  test.each(["changed", "truncated", "removed"] as const)(
    "of which any file is %s: the one before it is used, and that is said",
    async (how) => {
      const { place, paths, damage } = open();
      for (const name of FILES) {
        // What makes it a checkpoint: without it there is none.
        if (how === "removed" && name === "state.json" && place.startsWith("s3:")) continue;
        for (const { path } of await openStore(files, place).list())
          await openStore(files, place).remove(path);
        const own = writer(place, 2);
        for (const step of [4, 8]) await own.write(draft(step));
        const [newest, older] = paths([8, 4]) as [string, string];
        await damage(newest, name, how);
        const { step, told } = await read(place);
        expect(step).toBe(4);
        expect(told).toMatchObject([{ path: newest, used: older, step: 4 }]);
        expect(told[0]!.why).toContain(name);
        expect(told[0]!.why).not.toContain("\n");
        await damage(older, "model.onnx", "changed");
        const refused = await readCheckpoint(files, place).catch((error) => error);
        expect(refused.code).toBe("CHECKPOINT");
        expect(refused.message).toContain(name);
        expect(refused.message).toEndWith("; the one before it is damaged too");
      }
    },
  );

  test("a run that went back to an older one does not keep what it has gone back behind", async () => {
    const { place, paths, damage } = open();
    const own = writer(place, 2);
    for (const step of [4, 8]) await own.write(draft(step));
    await damage(paths([8])[0]!, "model.onnx", "changed");
    own.goBackTo((await read(place)).step);
    await own.write(draft(9));
    expect((await openStore(files, place).list()).map(({ path }) => path)).toEqual(paths([9, 4]));
    await own.write(draft(10));
    expect((await openStore(files, place).list()).map(({ path }) => path)).toEqual(paths([10, 9]));
  });
});

test("a checkpoint of the first format is read", async () => {
  const folder = join(root, "old");
  await files.makeFolder(folder);
  const digests: Record<string, string> = {};
  for (const [name, tensors] of Object.entries({ model: model(5), optimizer: optimizer(5) })) {
    const chunks = encodeSafetensors(new Map(Object.entries(tensors)));
    digests[`${name}.safetensors`] = sha256(chunks);
    await files.write(`${folder}/${name}.safetensors`, chunks);
  }
  const weights = weightsSha256(expected(5).parameters);
  const { step, seed, model: config, training } = expected(5);
  const state = { format: 1, step, seed, model: config, training, files: digests, weights_sha256: weights };
  await files.write(`${folder}/state.json`, [new TextEncoder().encode(JSON.stringify(state))]);
  expect(await readCheckpoint(files, folder)).toEqual(expected(5));
});

describe("a bucket", () => {
  test("takes large files in parts, and lists what is on many pages", async () => {
    server.pageKeys = 3;
    const large = Tensor.f32(
      [5 << 20],
      Float32Array.from({ length: 5 << 20 }, (_, i) => i % 1013),
    );
    const whole = { ...draft(1), values: async () => ({ ...model(1), ...optimizer(1), "h.0.w": large }) };
    const own = writer("s3://mine/large", 2);
    await own.write(whole);
    await own.write(draft(2));
    expect((await readCheckpoint(files, "s3://mine/large/step-1")).parameters.get("h.0.w")).toEqual(large);
    expect((await read("s3://mine/large")).step).toBe(2);
  });

  test.each([
    ["s3://mine", {}, "s3://mine names no place for checkpoints: s3://<bucket>/<prefix> is expected"],
    ["s3://mine/a", { AWS_ACCESS_KEY_ID: "other" }, "cannot list s3://mine/a/: the access key is not known"],
    [
      "s3://mine/a",
      { AWS_ENDPOINT_URL: "http://127.0.0.1:1" },
      "cannot list s3://mine/a/: nobody answers at the endpoint",
    ],
    [
      "s3://mine/a",
      { AWS_SECRET_ACCESS_KEY: "" },
      /^cannot list s3:\/\/mine\/a\/: credentials are missing: set AWS_ACCESS_KEY_ID/,
    ],
    ["s3://mine/a", {}, "s3://mine/a is not a checkpoint folder: it does not exist"],
  ])("%p %p: is refused in one line", async (place, environment, words) => {
    Object.assign(process.env, environment);
    const error = await readCheckpoint(files, place).catch((reason) => reason);
    expect(["FILE", "CHECKPOINT"]).toContain(error.code);
    if (typeof words === "string") expect(error.message).toBe(words);
    else expect(error.message).toMatch(words);
  });
});
