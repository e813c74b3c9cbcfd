/** What an operator of the reference engine is: a function of a node and its inputs' values. */

import type { Node } from "../../onnx/graph.ts";
import { describe } from "../../onnx/shapes.ts";
import { EngineError } from "../engine.ts";
import type { NdArray } from "./ndarray.ts";

/** Gives the node's outputs in order; those the node leaves out may be given too. Inputs are not changed. */
export type Operator = (call: Call) => readonly NdArray[];

/** Operators by name. */
export type Operators = Readonly<Record<string, Operator>>;

export class Call {
  readonly node: Node;
  readonly inputs: readonly (NdArray | undefined)[];

  constructor(node: Node, inputs: readonly (NdArray | undefined)[]) {
    this.node = node;
    this.inputs = inputs;
  }

  /** @throws EngineError when the node leaves this input out. */
  input(index: number): NdArray {
    const array = this.inputs[index];
    if (!array) throw this.error(`input ${index} is missing`);
    return array;
  }

  /** The elements of an input that holds axes, sizes or the like. */
  numbers(index: number): number[] {
    return [...this.input(index).data];
  }

  /** As `numbers`, for an optional input. */
  optionalNumbers(index: number): number[] | undefined {
    return this.inputs[index] && this.numbers(index);
  }

  /** The inputs that are there; for operators that take any number. */
  present(): NdArray[] {
    return this.inputs.filter((input) => input !== undefined);
  }

  error(message: string): EngineError {
    return new EngineError(`${describe(this.node)}: ${message}`);
  }
}
