/**
 * Models of every kind, trained across device processes by the real command line: a classifier on IDX images, an
 * `.onnx` file, and a Hugging Face folder with adapters.
 */

import { afterAll, beforeAll, expect, test } from "bun:test";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readCheckpoint } from "../../actors/checkpoint.ts";
import { inferenceGraph } from "../../nn/import/export.ts";
import { resnet } from "../../nn/models/resnet.ts";
import { freeze } from "../../nn/onnx/freeze.ts";
import { decodeModel, encodeModel } from "../../nn/onnx/proto.ts";
import { decodeSafetensors } from "../../nn/weights/safetensors.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import { files } from "../../runtime/platform/files.ts";
import { idxFile } from "../actors/data/memory.ts";
import { type Event, troupe } from "./troupe.ts";

const folder = mkdtempSync(join(tmpdir(), "troupe-models-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const at = (name: string) => join(folder, name);
const HUGGING_FACE = join(import.meta.dir, "../fixtures/huggingface/gpt2");

const IMAGES = 96;
const SIDE = 8;

beforeAll(async () => {
  // Two classes: bright above, or bright below.
  const pixels = new Uint8Array(IMAGES * SIDE * SIDE);
  const labels = new Uint8Array(IMAGES);
  for (let image = 0; image < IMAGES; image++) {
    labels[image] = image % 2;
    for (let i = 0; i < SIDE * SIDE; i++) {
      const bright = i < (SIDE * SIDE) / 2 === (labels[image] === 0);
      pixels[image * SIDE * SIDE + i] = (bright ? 160 : 40) + ((image * 31 + i * 17) % 50);
    }
  }
  mkdirSync(at("images"));
  writeFileSync(at("images/train-images-idx3-ubyte"), idxFile([IMAGES, SIDE, SIDE], pixels));
  writeFileSync(at("images/train-labels-idx1-ubyte"), idxFile([IMAGES], labels));

  const net = resnet({ depth: 18, width: 4, inputSize: SIDE, channels: 1, classes: 2 }, 8);
  const values = new Map<string, Tensor>();
  for (const name of [...net.parameters, ...Object.keys(net.statistics)])
    values.set(name, await net.initial(name, 3));
  writeFileSync(at("net.onnx"), encodeModel(freeze(inferenceGraph(net), values)));
});

async function train(devices: number, ...args: string[]): Promise<Event[]> {
  const all = ["train", "--devices", `${devices}`, ...args, "--sample", "0", "--json"];
  const { code, err, events } = await troupe(...all);
  expect([code, err]).toEqual([0, ""]);
  const plan = events.find(({ event }) => event === "plan")!;
  expect(plan.plan.stages).toHaveLength(devices);
  return events;
}

const losses = (events: readonly Event[]): number[] =>
  events.filter(({ event }) => event === "step").map(({ loss }) => loss);

const SMALL = ["--batch", "16", "--micro-batches", "2", "--warmup", "0", "--clip", "0"];

test("a classifier with batch normalisation learns IDX images; a resumed run goes on as if never ended, on fewer devices", async () => {
  const args = ["--model", "resnet18", "--width", "4", "--data", at("images"), ...SMALL, "--lr", "3e-3"];
  args.push("--input-size", "10", "--augment", "crop");
  const whole = await train(3, ...args, "--steps", "12", "--decay", "constant", "--out", at("whole"));
  expect(losses(whole).at(-1)!).toBeLessThan(0.5 * losses(whole)[0]!);
  expect(whole.at(-1)!.validation_loss).toBeLessThan(0.7);

  await train(2, ...args, "--steps", "6", "--decay", "constant", "--out", at("half"));
  const rest = await train(2, "--resume", at("half"), "--data", at("images"), "--steps", "12");
  expect(rest.at(-1)!.weights_sha256).toBe(whole.at(-1)!.weights_sha256);

  const { parameters } = await readCheckpoint(files, at("whole/checkpoint"));
  expect([...parameters.keys()]).toContain("layer1.0.bn1.running_mean");
  const graph = decodeModel(readFileSync(at("whole/checkpoint/model.onnx")));
  expect(graph.inputs.map(({ name, shape }) => [name, shape])).toEqual([["images", [1, 1, 10, 10]]]);
}, 120_000);

test("an .onnx file learns, and comes back as one", async () => {
  const events = await train(
    3,
    ...["--model", at("net.onnx"), "--data", at("images"), ...SMALL, "--lr", "3e-3", "--steps", "10"],
    ...["--out", at("onnx")],
  );
  expect(losses(events).at(-1)!).toBeLessThan(0.7 * losses(events)[0]!);
  const [before, after] = [at("net.onnx"), at("onnx/checkpoint/model.onnx")].map((path) =>
    decodeModel(readFileSync(path)),
  );
  const types = (graph: typeof before) => [graph!.inputs, graph!.outputs];
  expect(types(after)).toEqual(types(before));
}, 120_000);

test("a Hugging Face folder learns by adapters, and comes back as a folder", async () => {
  const events = await train(
    3,
    ...[
      "--model",
      HUGGING_FACE,
      "--lora",
      "--lora-rank",
      "4",
      "--data",
      join(import.meta.dir, "../fixtures/text.txt"),
    ],
    ...[...SMALL, "--context", "16", "--lr", "2e-2", "--steps", "10", "--out", at("lora")],
  );
  expect(losses(events).at(-1)!).toBeLessThan(losses(events)[0]!);
  const { parameters } = await readCheckpoint(files, at("lora/checkpoint"));
  expect([...parameters.keys()].every((name) => /\.lora_[AB]\.weight$/.test(name))).toBe(true);
  const original = readdirSync(HUGGING_FACE).sort();
  const exported = readdirSync(at("lora/model")).sort();
  expect(exported).toEqual([...original, "adapter", "model.onnx"].sort());
  const weights = (path: string) => decodeSafetensors(readFileSync(join(path, "model.safetensors"))).tensors;
  const [was, is] = [weights(HUGGING_FACE), weights(at("lora/model"))];
  expect([...is.keys()].sort()).toEqual([...was.keys()].sort());
}, 120_000);
