/** What tests of importing share: small files, and what is said about those that are refused. */

import { expect } from "bun:test";
import { type ImportOptions, importModel } from "../../../nn/import/import.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { GraphError } from "../../../nn/onnx/graph.ts";
import { encodeModel } from "../../../nn/onnx/proto.ts";
import type { Tensor } from "../../../protocols/tensor.ts";

export const mse: ImportOptions = { loss: "mse" };

/** A file with these initializers, whose function of `x` [2, 3, 4] is what `write` makes. */
export function fileOf(
  initializers: Readonly<Record<string, Tensor>>,
  write: (b: GraphBuilder, x: string) => string | readonly string[],
): Uint8Array {
  const b = new GraphBuilder("file");
  const x = b.input("x", "f32", [2, 3, 4]);
  for (const [name, tensor] of Object.entries(initializers)) b.constant(name, tensor);
  for (const output of [write(b, x)].flat()) b.output(output);
  return encodeModel(b.build());
}

/** The one line that a refused file is refused with; empty for one that is not. */
export async function refusal(bytes: Uint8Array, options: ImportOptions): Promise<string> {
  try {
    await importModel(bytes, options);
  } catch (error) {
    expect(error).toBeInstanceOf(GraphError);
    expect((error as Error).message).not.toMatch(/\n/);
    return (error as Error).message;
  }
  return "";
}
