import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { mkdtemp, readFile, rm, truncate, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  type Checkpoint,
  prepareCheckpoint,
  readCheckpoint,
  requireModel,
  requireTensors,
  weightsSha256,
  writeCheckpoint,
} from "../../actors/checkpoint.ts";
import { CheckpointError } from "../../actors/checkpoint-state.ts";
import { Tensor } from "../../protocols/tensor.ts";
import { type Files, files } from "../../runtime/platform/files.ts";

let root = "";
let folder = "";
beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), "troupe-checkpoint-"));
  folder = join(root, "checkpoint");
});
afterEach(() => rm(root, { recursive: true, force: true }));

const onnx = Uint8Array.of(8, 7, 6);

function checkpoint(step: number): Checkpoint {
  const tensors = (prefix: string, offset: number): [string, Tensor][] => [
    [`${prefix}w`, Tensor.f32([2, 2], [1, 2, 3, step + offset])],
    [`${prefix}b`, Tensor.f32([2], [step, offset])],
  ];
  return {
    step,
    seed: 7,
    model: { kind: "gpt", layers: 4, width: 256 },
    training: { batch: 16, lr: 1e-3 },
    parameters: new Map(tensors("", 0)),
    optimizer: new Map([...tensors("m.", 1), ...tensors("v.", 2)]),
  };
}

/** `files` that fail at the `limit`-th change of the disk and ever after, as if the process had been killed. */
function killedAt(limit: number): Files {
  let changes = 0;
  const change =
    <A extends unknown[]>(work: (...args: A) => Promise<void>) =>
    async (...args: A) => {
      if (changes++ >= limit) throw new Error("killed");
      await work(...args);
    };
  return {
    ...files,
    write: change(files.write),
    rename: change(files.rename),
    remove: change(files.remove),
    makeFolder: change(files.makeFolder),
  };
}

async function refusal(work: Promise<unknown>): Promise<CheckpointError> {
  const error = await work.catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(CheckpointError);
  expect((error as CheckpointError).message).not.toContain("\n");
  return error as CheckpointError;
}

describe("a checkpoint", () => {
  test("comes back as it was written, and leaves nothing beside its folder", async () => {
    await writeCheckpoint(files, `${folder}/`, checkpoint(3), onnx);
    await writeCheckpoint(files, folder, checkpoint(4), onnx);
    expect(await readCheckpoint(files, folder)).toEqual(checkpoint(4));
    expect(await files.list(root)).toEqual(["checkpoint"]);
    expect([...(await readFile(join(folder, "model.onnx")))]).toEqual([...onnx]);
  });

  test("its state names the weights and every file by SHA-256", async () => {
    await writeCheckpoint(files, folder, checkpoint(3), onnx);
    const state = JSON.parse(await readFile(join(folder, "state.json"), "utf8"));
    expect(state).toMatchObject({
      format: 2,
      step: 3,
      seed: 7,
      model: { width: 256 },
      training: { batch: 16 },
    });
    expect(state.weights_sha256).toBe(weightsSha256(checkpoint(3).parameters));
    expect(Object.keys(state.files).sort()).toEqual([
      "model.onnx",
      "model.safetensors",
      "optimizer.safetensors",
    ]);
  });

  test("is whole, the old or the new, wherever its writer is killed", async () => {
    let limit = 0;
    for (let done = false; !done; limit++) {
      await rm(folder, { recursive: true, force: true });
      await writeCheckpoint(files, folder, checkpoint(1), onnx);
      done = await writeCheckpoint(killedAt(limit), folder, checkpoint(2), onnx).then(
        () => true,
        () => false,
      );
      const left = await readCheckpoint(files, folder);
      expect(left).toEqual(checkpoint(left.step));
      expect([1, 2]).toContain(left.step);
      await writeCheckpoint(files, folder, checkpoint(5), onnx);
      expect(await files.list(root)).toEqual(["checkpoint"]);
      expect((await readCheckpoint(files, folder)).step).toBe(5);
    }
    expect(limit).toBeGreaterThan(8);
  });
});

describe("readCheckpoint refuses, in one line,", () => {
  test("a folder that is none, and one that lacks a file", async () => {
    expect((await refusal(readCheckpoint(files, folder))).message).toBe(
      `${folder} is not a checkpoint folder: it does not exist`,
    );
    await writeCheckpoint(files, folder, checkpoint(1), onnx);
    await rm(join(folder, "optimizer.safetensors"));
    expect((await refusal(readCheckpoint(files, folder))).message).toEndWith(
      "it has no optimizer.safetensors",
    );
  });

  test("truncated and changed files", async () => {
    for (const name of ["model.safetensors", "optimizer.safetensors", "model.onnx", "state.json"]) {
      await writeCheckpoint(files, folder, checkpoint(1), onnx);
      await truncate(join(folder, name), 2);
      const error = await refusal(readCheckpoint(files, folder));
      expect(error.reason).toBe("damaged");
      expect(error.message).toContain(`${folder}/${name}`);
    }
    await writeCheckpoint(files, folder, checkpoint(1), onnx);
    const path = join(folder, "model.safetensors");
    const bytes = await readFile(path);
    bytes[bytes.length - 1]! ^= 1;
    await writeFile(path, bytes);
    expect((await refusal(readCheckpoint(files, folder))).reason).toBe("damaged");
  });

  test("a state whose values were changed", async () => {
    await writeCheckpoint(files, folder, checkpoint(1), onnx);
    const path = join(folder, "state.json");
    const state = await readFile(path, "utf8");
    await writeFile(path, state.replace('"step": 1', '"step": 2'));
    const { message, reason } = await refusal(readCheckpoint(files, folder));
    expect(message).toContain("state.json was changed");
    expect(reason).toBe("damaged");
    // Laid out differently they are the same.
    await writeFile(path, JSON.stringify(JSON.parse(state)));
    expect((await readCheckpoint(files, folder)).step).toBe(1);
  });

  test("another format, and a state that lacks something", async () => {
    await writeCheckpoint(files, folder, checkpoint(1), onnx);
    await writeFile(join(folder, "state.json"), '{"format":3}');
    expect((await refusal(readCheckpoint(files, folder))).message).toEndWith(
      "is of format 3, this version reads 1 and 2",
    );
    await writeFile(join(folder, "state.json"), '{"format":1,"step":-1}');
    expect((await refusal(readCheckpoint(files, folder))).message).toContain("lacks one of step");
  });
});

test("requireTensors names what a run cannot go on without", () => {
  const info = (name: string, shape: number[]) => ({ name, dtype: "f32" as const, shape });
  const parameters = [info("w", [2, 2]), info("b", [2])];
  requireTensors(checkpoint(1), { parameters, optimizer: [info("v.b", [2])] }, "out");
  for (const [wanted, words] of [
    [info("v.c", [2]), "out/optimizer.safetensors: v.c is missing, f32[2] was expected"],
    [info("v.b", [3]), "out/optimizer.safetensors: v.b is f32[2], f32[3] was expected"],
  ] as const) {
    expect(() => requireTensors(checkpoint(1), { parameters, optimizer: [wanted] }, "out")).toThrow(words);
  }
});

test("requireModel names what differs", async () => {
  const here = { kind: "gpt", layers: 6, width: 256, heads: 4 };
  const error = await refusal((async () => requireModel(checkpoint(1), here, "out"))());
  expect(error.message).toBe(
    "out is of another model: layers is 4 there and 6 here, heads is not set there and 4 here",
  );
  requireModel({ ...checkpoint(1), model: { from: "a" } }, { from: "elsewhere/a" }, "out");
  requireModel(checkpoint(1), { width: 256, layers: 4, kind: "gpt" }, "out");
});

describe("prepareCheckpoint", () => {
  test("never gives way to a checkpoint what is not one", async () => {
    await files.makeFolder(folder);
    await prepareCheckpoint(files, folder);
    await writeFile(join(folder, "thesis.tex"), "x");
    expect((await refusal(prepareCheckpoint(files, folder))).message).toContain("holds thesis.tex");
    expect((await refusal(writeCheckpoint(files, folder, checkpoint(1), onnx))).reason).toBe("occupied");
    expect(await files.list(folder)).toEqual(["thesis.tex"]);
  });

  test("tells early that a place cannot be written", async () => {
    await writeFile(join(root, "file"), "x");
    const error = await prepareCheckpoint(files, join(root, "file", "checkpoint")).catch((reason) => reason);
    expect(error.code).toBe("FILE");
  });
});

test("weightsSha256 covers names, shapes and bytes, and not the order of the map", async () => {
  const a = Tensor.f32([2], [1, 2]);
  const b = Tensor.f32([1, 2], [1, 2]);
  const digest = weightsSha256(
    new Map([
      ["a", a],
      ["b", b],
    ]),
  );
  expect(
    weightsSha256(
      new Map([
        ["b", b],
        ["a", a],
      ]),
    ),
  ).toBe(digest);
  expect(
    weightsSha256(
      new Map([
        ["a", b],
        ["b", a],
      ]),
    ),
  ).not.toBe(digest);
  expect(
    weightsSha256(
      new Map([
        ["a", a],
        ["c", b],
      ]),
    ),
  ).not.toBe(digest);
  const hash = new Bun.CryptoHasher("sha256");
  hash.update('["a","f32",[2]]\n').update(a.bytes).update('["b","f32",[1,2]]\n').update(b.bytes);
  expect(digest).toBe(hash.digest("hex"));
});
