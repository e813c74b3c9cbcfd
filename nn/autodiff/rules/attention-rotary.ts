/**
 * Rotary position embedding (Su et al., "RoFormer", 2021) written out: pairs of elements of a head are turned by the
 * angle of their position. Pairs are the two halves of a head, which are split and joined again, or (interleaved)
 * neighbours: those are swapped by a product with a permutation, since moving single elements costs more than that.
 */

import { Tensor } from "../../../protocols/tensor.ts";
import type { GraphBuilder } from "../../onnx/builder.ts";
import { GraphError, MICROSOFT, type Node } from "../../onnx/graph.ts";
import { describe, floatAttribute, intAttribute } from "../../onnx/shapes.ts";

interface Angles {
  readonly cos: string;
  readonly sin: string;
}

/** Writes RotaryEmbedding of ai.onnx (X, cos, sin, positions) or of com.microsoft (X, positions, cos, sin). */
export function writeRotary(b: GraphBuilder, node: Node): void {
  const [x, ...others] = node.inputs as [string, string, string, string?];
  const [cos, sin, positions] =
    node.domain === MICROSOFT ? [others[1]!, others[2]!, others[0]] : [others[0]!, others[1]!, others[2]];
  if (node.domain === MICROSOFT) {
    const [packed, scale] = [intAttribute(node, "is_packed_batching", 0), floatAttribute(node, "scale", 1)];
    if (packed !== 0 || scale !== 1) {
      throw new GraphError(`${describe(node)}: known without is_packed_batching and with a scale of 1 only`);
    }
  }
  const shape = b.shape(x);
  const apart = shape.length === 4;
  const length = apart ? shape[2]! : shape[1]!;
  const cache = b.shape(cos).at(-1)!;
  const given = intAttribute(node, "rotary_embedding_dim", 0);
  const size = apart ? shape[3]! : headSize(node, shape.at(-1)!, given, cache);
  const turned = given || size;
  if (2 * cache !== turned || turned > size) {
    throw new GraphError(
      `${describe(node)}: angles [${b.shape(cos)}] for ${turned} of ${size} elements of a head; half as many are needed`,
    );
  }
  // Heads stand between positions and elements, or before both.
  const heads = apart ? x : b.op("Reshape", [x, b.ints([shape[0]!, length, shape[2]! / size, size])]);
  const angle = (cached: string): string => {
    const at = b.op("Reshape", [anglesAt(b, cached, positions, length), b.ints([-1, length, cache])]);
    const batch = b.shape(at)[0]!;
    return b.op("Reshape", [at, b.ints(apart ? [batch, 1, length, cache] : [batch, length, 1, cache])]);
  };
  const angles = { cos: angle(cos), sin: angle(sin) };
  const turn = intAttribute(node, "interleaved", 0) === 1 ? turnNeighbours : turnHalves;
  const result = turn(b, heads, angles, turned);
  if (apart) b.op("Identity", [result], {}, node.outputs[0]!);
  else b.op("Reshape", [result, b.ints(shape)], {}, node.outputs[0]!);
}

/** Elements of a head, where heads stand side by side. */
function headSize(node: Node, width: number, turned: number, cache: number): number {
  const heads = intAttribute(node, "num_heads", 0);
  if (heads > 0) return width / heads;
  if (turned === 0) return 2 * cache;
  throw new GraphError(`${describe(node)}: which elements make a head? num_heads should say so`);
}

/** Rows of the cache at the positions [B, S], or from the one position [1] on; all of it without positions. */
function anglesAt(b: GraphBuilder, cached: string, positions: string | undefined, length: number): string {
  if (!positions) return cached;
  if (b.shape(positions).join() !== "1") return b.op("Gather", [cached, positions], { axis: 0 });
  const counted = b.ints(Array.from({ length }, (_, i) => i));
  return b.op("Gather", [cached, b.op("Add", [positions, counted])], { axis: 0 });
}

function parts(b: GraphBuilder, x: string, sizes: readonly number[]): readonly string[] {
  const outputs = sizes.map(() => b.fresh("rotary.part"));
  return b.node("Split", [x, b.ints(sizes)], { attributes: { axis: -1 }, outputs });
}

/** The first half of the elements with the second; those beyond `turned` stay as they are. */
function turnHalves(b: GraphBuilder, x: string, { cos, sin }: Angles, turned: number): string {
  const size = b.shape(x).at(-1)!;
  const half = turned / 2;
  const [low, high, ...rest] = parts(b, x, size > turned ? [half, half, size - turned] : [half, half]);
  const real = b.op("Sub", [b.op("Mul", [low!, cos]), b.op("Mul", [high!, sin])]);
  const imaginary = b.op("Add", [b.op("Mul", [low!, sin]), b.op("Mul", [high!, cos])]);
  return b.op("Concat", [real, imaginary, ...rest], { axis: -1 });
}

/** Each element with its neighbour: x ∘ cos + swap(x) ∘ sin, with every angle twice. */
function turnNeighbours(b: GraphBuilder, x: string, { cos, sin }: Angles, turned: number): string {
  const size = b.shape(x).at(-1)!;
  const [given, ...rest] = size > turned ? parts(b, x, [turned, size - turned]) : [x];
  const twice = (angle: string): string => {
    const shape = b.shape(angle);
    const column = b.op("Reshape", [angle, b.ints([...shape, 1])]);
    const both = b.op("Expand", [column, b.ints([...shape, 2])]);
    return b.op("Reshape", [both, b.ints([...shape.slice(0, -1), turned])]);
  };
  const swapped = b.op("MatMul", [given!, swap(b, turned, x)]);
  const result = b.op("Add", [b.op("Mul", [given!, twice(cos)]), b.op("Mul", [swapped, twice(sin)])]);
  return rest.length === 0 ? result : b.op("Concat", [result, ...rest], { axis: -1 });
}

/** [size, size]; x·swap is (−x₁, x₀, −x₃, x₂, …). */
function swap(b: GraphBuilder, size: number, like: string): string {
  const matrix = new Float32Array(size * size);
  for (let i = 0; i < size; i += 2) {
    matrix[(i + 1) * size + i] = -1;
    matrix[i * size + i + 1] = 1;
  }
  const name = b.constant(`rotary.swap.${size}`, Tensor.f32([size, size], matrix));
  return b.type(like).dtype === "f32" ? name : b.op("CastLike", [name, like]);
}
