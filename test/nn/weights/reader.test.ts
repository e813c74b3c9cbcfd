import { describe, expect, test } from "bun:test";
import { WeightsError } from "../../../nn/weights/header.ts";
import { SafetensorsReader } from "../../../nn/weights/reader.ts";
import { encodeSafetensors } from "../../../nn/weights/safetensors.ts";
import { Tensor } from "../../../protocols/tensor.ts";

const a = Tensor.f32([2, 3], [1, 2, 3, 4, 5, 6]);
const b = new Tensor("bf16", [3], Uint8Array.of(1, 2, 3, 4, 5, 6));
const file = concat(
  encodeSafetensors(
    new Map([
      ["a", a],
      ["b", b],
    ]),
    { format: "pt" },
  ),
);

function concat(chunks: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(chunks.flatMap((chunk) => [...chunk]));
}

/** A file that keeps account of the ranges read. */
function counted(bytes: Uint8Array) {
  const ranges: [number, number][] = [];
  const read = async (start: number, end: number) => {
    ranges.push([start, end]);
    return bytes.subarray(start, end);
  };
  return { read, ranges };
}

describe("a safetensors file read by ranges", () => {
  test("is opened by its header alone, and gives the tensors asked for", async () => {
    const { read, ranges } = counted(file);
    const reader = await SafetensorsReader.open(read, file.byteLength, "x");
    const header = file.byteLength - 30;
    expect(ranges).toEqual([
      [0, 8],
      [8, header],
    ]);
    expect(reader.metadata).toEqual({ format: "pt" });
    expect([...reader.entries.keys()]).toEqual(["a", "b"]);
    const tensor = await reader.tensor("b");
    expect([tensor.dtype, tensor.shape, [...tensor.bytes]]).toEqual(["bf16", [3], [...b.bytes]]);
    expect(ranges.at(-1)).toEqual([header + 24, header + 30]);
    expect((await reader.tensor("a")).f32()).toEqual(a.f32());
  });

  test("is refused before a tensor is read when it is too short", async () => {
    const short = file.subarray(0, -1);
    const error = new WeightsError(
      "x: truncated: tensor b ends at byte 30, the file holds 29 bytes of tensors",
    );
    await expect(SafetensorsReader.open(counted(short).read, short.byteLength, "x")).rejects.toThrow(error);
    await expect(SafetensorsReader.open(counted(file).read, 20, "x")).rejects.toThrow(
      /truncated: the header/,
    );
    const none = new Uint8Array(3);
    await expect(SafetensorsReader.open(counted(none).read, 3, "x")).rejects.toThrow(/at least 8 bytes/);
  });

  test("names a tensor that is not there, and one that is cut off meanwhile", async () => {
    let bytes = file;
    const reader = await SafetensorsReader.open(
      async (start, end) => bytes.subarray(start, end),
      file.byteLength,
      "x",
    );
    await expect(reader.tensor("c")).rejects.toThrow(new WeightsError("x: there is no tensor c"));
    bytes = file.subarray(0, -2);
    await expect(reader.tensor("b")).rejects.toThrow(
      new WeightsError("x: truncated while in use: 4 of the 6 bytes of tensor b could be read"),
    );
  });
});
