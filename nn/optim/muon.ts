/**
 * Muon (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024): the momentum of a matrix is
 * replaced by the nearest orthogonal matrix, found by five Newton–Schulz iterations, which are matrix products.
 * Parameters that are no matrices are AdamW's. Steps are scaled by 0.2·√(larger side), so that one learning rate suits
 * both (Liu et al., "Muon is Scalable for LLM Training", 2025).
 */

import { float, type Graph, type ValueInfo } from "../onnx/graph.ts";
import { adamw, type Moments } from "./adamw.ts";
import { type CommonConfig, firstMomentName, type Update, updatedName, updateGraph } from "./update.ts";

export interface MuonConfig extends CommonConfig, Moments {
  readonly kind: "muon";
  /** Of matrices; Nesterov's form. */
  readonly momentum: number;
}

/** Jordan's quintic, which lifts small singular values fastest. */
const [A, B, C] = [3.4445, -4.775, 2.0315];
const ITERATIONS = 5;

export const isMatrix = ({ shape }: Pick<ValueInfo, "shape">): boolean => shape.length === 2;

/** State of a matrix p: `m.p`; of others `m.p` and `v.p`. */
export function muonGraph(parameters: readonly ValueInfo[], total: number, config: MuonConfig): Graph {
  const { momentum, weightDecay } = config;
  return updateGraph("muon", parameters, total, config, (update) => {
    const { b, rate, scale, k, f32 } = update;
    const rest = adamw(update, config);
    const factor = f32(scale);
    const keep = f32(b.op("Sub", [k(1), b.op("Mul", [rate, k(weightDecay)])]));
    return (site) => {
      if (!isMatrix(site)) return rest(site);
      const { name, shape, p, g, state } = site;
      const m = state(firstMomentName);
      const gradient = b.op("Mul", [g, factor]);
      const scaled = (value: string) => b.op("Mul", [value, b.scalar(momentum)]);
      const next = b.op("Add", [scaled(m), gradient], {}, updatedName(m));
      const way = orthogonal(update, b.op("Add", [gradient, scaled(next)]));
      const step = f32(b.op("Mul", [rate, k(0.2 * Math.sqrt(Math.max(...shape)))]));
      b.op("Sub", [b.op("Mul", [p, keep]), b.op("Mul", [way, step])], {}, updatedName(name));
    };
  });
}

function orthogonal({ b }: Update, matrix: string): string {
  const [rows, columns] = b.shape(matrix) as [number, number];
  const gemm = (inputs: string[], transB: number, alpha: number, beta: number) =>
    b.op("Gemm", inputs, { transB, alpha: float(alpha), beta: float(beta) });
  const norm = b.op("Sqrt", [b.op("ReduceSumSquare", [matrix], { keepdims: 0 })]);
  const tall = rows > columns;
  // The products are of the shorter side.
  let x = b.op("Div", [matrix, b.op("Add", [norm, b.scalar(1e-7)])]);
  if (tall) x = b.op("Transpose", [x], { perm: [1, 0] });
  for (let i = 0; i < ITERATIONS; i++) {
    const square = gemm([x, x], 1, 1, 0);
    const mix = gemm([square, square, square], 0, C, B);
    x = gemm([mix, x, x], 0, 1, A);
  }
  return tall ? b.op("Transpose", [x], { perm: [1, 0] }) : x;
}
