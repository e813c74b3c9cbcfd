/** Cases of products beyond the transformer's: see operator-cases.ts. */

import { type Attribute, float, MICROSOFT } from "../../../../nn/onnx/graph.ts";
import type { Chance, OperatorCase } from "../operator-cases.ts";

type Maker = (chance: Chance) => OperatorCase;

/** Equations as models have them, and some that nobody writes. */
export const EQUATIONS = [
  "ij,jk->ik",
  "bij,bjk->bik",
  "...ij,jk->...ik",
  "...ij,...kj->...ik",
  "bihd,bjhd->bhij",
  "bhij,bjhd->bihd",
  "i,j->ij",
  "i,i->",
  "ij->ji",
  "ijk->k",
  "ij,ij->i",
  "bqhc,bkhc->bhqk",
  "abc,cd,db->a",
  "ij,jk",
  "ba,cb->ac",
  "...i,i->...",
  "b...,b->...b",
  "ijk,jil->lk",
  "bnd,hed->bhne",
];

/** Operands of an equation; of an axis that an ellipsis stands for one may be 1. */
export function einsum(c: Chance, equation: string): OperatorCase {
  const sizes = new Map<string, number>();
  const hidden = c.shape(2);
  const dims = (part: string) => {
    if (part === "...") return c.narrowed(hidden);
    if (!sizes.has(part)) sizes.set(part, c.int(1, 4));
    return [sizes.get(part)!];
  };
  const terms = equation.split("->")[0]!.split(",");
  const shapes = terms.map((term) => term.match(/\.\.\.|\w/g)!.flatMap(dims));
  return { inputs: shapes.map((shape) => c.f32(shape)), attributes: { equation } };
}

/** Matrices and vectors, batches on either side, and batches of which an axis stretches. */
export const matMul: Maker = (c) => {
  const [m, k, n] = [c.int(1, 4), c.int(1, 4), c.int(1, 4)];
  const batch = c.shape(c.int(0, 2));
  const [first, second] = [c.narrowed(batch), c.narrowed(batch)];
  const left = c.pick([k], [m, k], [...first, m, k]);
  return { inputs: [left, c.pick([k], [k, n], [...second, k, n])].map((shape) => c.f32(shape)) };
};

/** Batches that broadcast; with transBatch there are as many axes on both sides. */
export const fusedMatMul: Maker = (c) => {
  const flag = () => c.int(0, 1);
  const flags = { transA: flag(), transB: flag(), transBatchA: flag(), transBatchB: flag() };
  const [m, k, n] = [2, 3, 4];
  const batch = c.shape(c.int(1, 2));
  const operand = (rows: number, columns: number, trans: number, transBatch: number) => {
    const [first, last] = trans ? [columns, rows] : [rows, columns];
    const own = batch.map((dim) => c.pick(dim, dim, 1));
    return c.f32(transBatch ? [first!, ...own, last!] : [...own, first!, last!]);
  };
  const attributes: Record<string, Attribute> = { ...flags, alpha: float(c.pick(1, 0.125)) };
  return {
    domain: MICROSOFT,
    inputs: [operand(m, k, flags.transA, flags.transBatchA), operand(k, n, flags.transB, flags.transBatchB)],
    attributes,
  };
};

export const PRODUCT_CASES: Readonly<Record<string, Maker>> = {
  MatMul: matMul,
  FusedMatMul: fusedMatMul,
  Einsum: (c) => einsum(c, c.pick(...EQUATIONS, "ii->i", "ijj->ij")),
};
