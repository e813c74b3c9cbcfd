import { expect, test } from "bun:test";
import { join } from "node:path";
import { type HuggingFaceSpec, openHuggingFace } from "../../../actors/tasks/huggingface.ts";
import { GraphError } from "../../../nn/onnx/graph.ts";
import { files } from "../../../runtime/platform/files.ts";

const FIXTURES = join(import.meta.dir, "../../fixtures");
const SPEC: HuggingFaceSpec = {
  ...{ kind: "huggingface", from: join(FIXTURES, "huggingface/gpt2"), context: null },
  tuning: { lora: null, freeze: [], storage: "f32" },
};
const DATA = join(FIXTURES, "text.txt");
const OPTIONS = { data: DATA, rows: 2, microBatches: 1, seed: 1 };

/** Opens a task. @returns what it was refused with, if it was, and whether its text had been read by then. */
async function opened(spec: Partial<HuggingFaceSpec>) {
  const read: string[] = [];
  const watched = new Proxy(files, {
    get: (own, name: keyof typeof files) =>
      typeof own[name] !== "function"
        ? own[name]
        : (...args: readonly unknown[]) => {
            read.push(String(args[0]));
            return (own[name] as (...args: readonly unknown[]) => unknown)(...args);
          },
  });
  const error = await openHuggingFace({ ...SPEC, ...spec }, OPTIONS, watched).then(
    () => null,
    (reason) => reason as Error,
  );
  return { error, hasRead: read.includes(DATA) };
}

test("what the model cannot be is refused before its text is read: all of that would be made tokens of", async () => {
  expect(await opened({})).toEqual({ error: null, hasRead: true });
  const tooLong = await opened({ context: 32 });
  expect(tooLong.error).toBeInstanceOf(GraphError);
  expect(tooLong.error!.message).toBe("sequences of 32 tokens are longer than the model's 24 positions");
  expect(tooLong.hasRead).toBe(false);
  const nothing = await opened({ tuning: { ...SPEC.tuning, freeze: ["nothing.of.it"] } });
  expect(nothing.error).toBeInstanceOf(GraphError);
  expect(nothing.hasRead).toBe(false);
});
