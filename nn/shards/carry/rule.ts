/**
 * What a rule of sharding is: given how the inputs of a node lie on the ranks, how its outputs do when every rank runs
 * the node on what it has, and what it must have of each input for that. A rule answers with a reason where that
 * cannot be; the inputs are then gathered, and every rank runs the node as a whole.
 *
 * A rule may unite units. It does so only when nothing else can stop it any more.
 */

import type { Node, ValueType } from "../../onnx/graph.ts";
import { type Layout, type Part, part, WHOLE, type Whole } from "../layout.ts";
import type { Labels, Units } from "../units.ts";

export interface Site {
  readonly node: Node;
  readonly units: Units;
  readonly ranks: number;
  /** Type of the whole of input `index`. */
  type(index: number): ValueType;
  /** Type of the whole of output `index`. */
  result(index: number): ValueType;
  layout(index: number): Whole | Part;
  /** Whether the ranks can each have a part of an input that is whole: held values and constants, rows of others. */
  sliceable(index: number, labels: Labels): boolean;
  /** Which of so many ways to carry labels on is taken: the next where one has led nowhere. */
  choice(ways: number, labels: Labels): number;
  /** The integers of an input that is constant. */
  ints(index: number): readonly number[] | undefined;
}

export interface Carried {
  readonly inputs: readonly (Whole | Part)[];
  readonly outputs: readonly Layout[];
  /** The outputs are means over the indices of this axis: those of a part count by its length. */
  readonly mean?: Labels;
}

/** The reason is in a few words, to stand behind the node's name. */
export type CarryRule = (site: Site) => Carried | string;

export type CarryRules = Readonly<Record<string, CarryRule>>;

/** The inputs that are cut. */
export function cutInputs(site: Site): { readonly index: number; readonly at: Part }[] {
  return site.node.inputs.flatMap((name, index) => {
    const at = name === "" ? WHOLE : site.layout(index);
    return at.kind === "part" ? [{ index, at }] : [];
  });
}

/** All inputs whole but for the given ones. */
export function inputsWith(site: Site, given: Readonly<Record<number, Part>>): (Whole | Part)[] {
  return site.node.inputs.map((_, index) => given[index] ?? WHOLE);
}

/** Every output is cut along this axis. */
export const outputsCut = (site: Site, axis: number, labels: Labels): Layout[] =>
  site.node.outputs.map(() => part(axis, labels));

/** For operators on one value that leave the cut axis alone, wherever it is but for what `blocked` says. */
export function alongside(blocked: (site: Site, axis: number) => boolean): CarryRule {
  return (site) => {
    const { axis, labels } = site.layout(0) as Part;
    if (cutInputs(site).some(({ index }) => index !== 0)) return "is cut in another input than the first";
    if (blocked(site, axis)) return `works along axis ${axis}, which is cut`;
    return {
      inputs: inputsWith(site, { 0: site.layout(0) as Part }),
      outputs: outputsCut(site, axis, labels),
    };
  };
}
