import { describe, expect, test } from "bun:test";
import { decodeSafetensors, encodeSafetensors, WeightsError } from "../../../nn/weights/safetensors.ts";
import { DTYPE_BYTES, type DType, Tensor } from "../../../protocols/tensor.ts";

const join = (chunks: readonly Uint8Array[]) => new Uint8Array(Buffer.concat(chunks));

/** A file with this header over this many zero bytes. */
function file(header: unknown, bodyBytes = 0): Uint8Array {
  const json = new TextEncoder().encode(typeof header === "string" ? header : JSON.stringify(header));
  const length = new Uint8Array(8);
  new DataView(length.buffer).setBigUint64(0, BigInt(json.length), true);
  return join([length, json, new Uint8Array(bodyBytes)]);
}

function refusal(bytes: Uint8Array): string {
  try {
    decodeSafetensors(bytes, "w.safetensors");
  } catch (error) {
    expect(error).toBeInstanceOf(WeightsError);
    const { message } = error as WeightsError;
    expect(message).toStartWith("w.safetensors: ");
    expect(message).not.toContain("\n");
    return message;
  }
  throw new Error("was accepted");
}

describe("encodeSafetensors", () => {
  test("writes the bytes the specification names", () => {
    const [header, body] = encodeSafetensors(new Map([["a", Tensor.f32([1, 2], [1, 2])]]), { by: "us" });
    const text = new TextDecoder().decode(header!.subarray(8));
    expect(Number(new DataView(header!.buffer).getBigUint64(0, true))).toBe(text.length);
    expect(header!.length % 8).toBe(0);
    expect(text.trimEnd()).toBe(
      '{"__metadata__":{"by":"us"},"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}',
    );
    expect(body).toEqual(new Uint8Array(Float32Array.of(1, 2).buffer));
  });

  test("borrows the tensors' bytes and does not depend on the order of the map", () => {
    const a = Tensor.f32([2], [1, 2]);
    const b = Tensor.i64([1], [3]);
    const chunks = encodeSafetensors(
      new Map([
        ["10", a],
        ["b", b],
        ["9", a],
      ]),
    );
    expect(chunks[1]).toBe(b.bytes);
    expect(chunks[2]).toBe(a.bytes);
    const other = encodeSafetensors(
      new Map([
        ["9", a],
        ["10", a],
        ["b", b],
      ]),
    );
    expect(join(other)).toEqual(join(chunks));
  });

  test("refuses the reserved name", () => {
    expect(() => encodeSafetensors(new Map([["__metadata__", Tensor.zeros("u8", [1])]]))).toThrow(
      WeightsError,
    );
  });
});

describe("decodeSafetensors", () => {
  test("gives back every dtype, scalars and empty tensors, and the metadata", () => {
    const tensors = new Map<string, Tensor>();
    for (const dtype of Object.keys(DTYPE_BYTES) as DType[]) {
      const tensor = Tensor.zeros(dtype, [3, 1]);
      tensor.bytes.forEach((_, i) => {
        tensor.bytes[i] = i + 1;
      });
      tensors.set(`of ${dtype}`, tensor);
    }
    tensors.set("scalar", Tensor.f32([], [7]));
    tensors.set("empty", Tensor.zeros("f32", [0, 4]));
    const decoded = decodeSafetensors(join(encodeSafetensors(tensors, { format: "x" })));
    expect(decoded.metadata).toEqual({ format: "x" });
    expect(decoded.tensors.size).toBe(tensors.size);
    for (const [name, tensor] of tensors) expect(decoded.tensors.get(name)).toEqual(tensor);
    expect(decodeSafetensors(join(encodeSafetensors(new Map()))).tensors.size).toBe(0);
  });

  test("returns views, and copies only what is misaligned", () => {
    const bytes = join(encodeSafetensors(new Map([["a", Tensor.f32([1], [5])]])));
    expect(decodeSafetensors(bytes).tensors.get("a")!.bytes.buffer).toBe(bytes.buffer);
    const shifted = new Uint8Array(bytes.length + 1).subarray(1);
    shifted.set(bytes);
    expect([...decodeSafetensors(shifted).tensors.get("a")!.f32()]).toEqual([5]);
  });

  test("refuses damage in one line that says what", () => {
    const f32 = (start: number, end: number, shape = [(end - start) / 4]) => ({
      dtype: "F32",
      shape,
      data_offsets: [start, end],
    });
    expect(refusal(new Uint8Array(5))).toContain("truncated");
    expect(refusal(file({ a: f32(0, 4) }, 4).subarray(0, 20))).toContain("truncated: the header ends");
    expect(refusal(new Uint8Array(64).fill(0xff))).toContain("claims a header");
    expect(refusal(file("[1]"))).toContain("not a JSON object");
    expect(refusal(file("{"))).toContain("not a JSON object");
    expect(refusal(file({ a: f32(0, 8) }, 4))).toContain("truncated: tensor a ends at byte 8");
    expect(refusal(file({ a: f32(0, 8), b: f32(4, 12) }, 12))).toContain("a and b overlap");
    expect(refusal(file({ a: f32(0, 8), b: f32(12, 16) }, 16))).toContain("gap of 4 bytes before tensor b");
    expect(refusal(file({ a: f32(0, 8) }, 9))).toContain("1 bytes after the last tensor");
    expect(refusal(file({ a: { ...f32(0, 4), dtype: "F8_E4M3" } }, 4))).toContain("dtype F8_E4M3");
    expect(refusal(file({ a: f32(0, 4, [2]) }, 4))).toContain("takes 8 bytes, its offsets give 4");
    expect(refusal(file({ a: f32(0, 4, [-1]) }, 4))).toContain("shape");
    expect(refusal(file({ a: { dtype: "F32", shape: [1], data_offsets: [8, 4] } }, 8))).toContain(
      "data_offsets",
    );
    expect(refusal(file({ a: 1 }))).toContain("tensor a has dtype undefined");
    expect(refusal(file({ __metadata__: { a: 1 } }))).toContain("__metadata__");
  });
});
