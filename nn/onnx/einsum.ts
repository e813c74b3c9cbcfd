/**
 * The equation of an Einsum, read for the shapes at hand: which label each axis of each operand has, and which the
 * result keeps. Axes that an ellipsis stands for are labelled by their place from the right, so that they broadcast.
 */

import type { Shape } from "../../protocols/tensor.ts";
import { GraphError } from "./graph.ts";

export interface Equation {
  /** Labels of the axes of each operand. */
  readonly operands: readonly (readonly string[])[];
  /** Labels of the axes of the result. */
  readonly result: readonly string[];
  /** The size of each label. An axis of size 1 stretches to it. */
  readonly sizes: ReadonlyMap<string, number>;
}

/** @throws GraphError, beginning with `where`, for an equation that cannot be read or does not go with the shapes. */
export function readEquation(text: string, shapes: readonly Shape[], where: string): Equation {
  const fail = (what: string) => new GraphError(`${where}: equation "${text}" ${what}`);
  const [left = "", right, ...more] = text.replaceAll(" ", "").split("->");
  const terms = left.split(",");
  if (more.length > 0 || ![left, right ?? ""].every((side) => /^([A-Za-z,]|\.\.\.)*$/.test(side))) {
    throw fail("cannot be read");
  }
  if (terms.length !== shapes.length) throw fail(`has ${terms.length} operands, not ${shapes.length}`);

  const hidden = terms.map((term, i) =>
    term.includes("...") ? shapes[i]!.length - letters(term).length : 0,
  );
  const most = Math.max(0, ...hidden);
  const ellipsis = Array.from({ length: most }, (_, i) => `.${i}`);
  const labelled = (term: string, count: number): string[] =>
    (term.match(/\.\.\.|[A-Za-z]/g) ?? []).flatMap((part) =>
      part === "..." ? ellipsis.slice(most - count) : [part],
    );
  const sizes = new Map<string, number>();
  const operands = terms.map((term, i) => {
    const labels = labelled(term, hidden[i]!);
    const shape = shapes[i]!;
    if (labels.length !== shape.length) throw fail(`gives "${term}" to [${shape}]`);
    labels.forEach((label, axis) => {
      const [dim, known = 1] = [shape[axis]!, sizes.get(label)];
      if (dim !== known && dim !== 1 && known !== 1)
        throw fail(`gives ${label} the sizes ${known} and ${dim}`);
      sizes.set(label, Math.max(dim, known));
    });
    return labels;
  });
  const all = terms.flatMap(letters);
  const once = [...new Set(all)].filter((label) => all.indexOf(label) === all.lastIndexOf(label)).sort();
  const result = right === undefined ? [...ellipsis, ...once] : labelled(right, most);
  const stranger = result.find((label) => !sizes.has(label));
  if (stranger !== undefined) throw fail(`has no operand with ${stranger}`);
  return { operands, result, sizes };
}

const letters = (term: string): string[] => term.match(/[A-Za-z]/g) ?? [];
