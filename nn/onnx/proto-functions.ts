/**
 * Functions of a model: operators that a file defines itself, by other nodes. Every use is replaced by the body, with
 * names of its own; what remains are operators that stand in tables.
 *
 * Works on the decoded protobuf objects, since a body's attributes may refer to those of the use.
 */

import { GraphError } from "./graph.ts";

/** A function may use another, not itself; deeper than this is a cycle. */
const DEEPEST = 16;
/** A few functions that use each other twice each grow without bound. */
const MOST_NODES = 1_000_000;

/** @throws GraphError for functions that use themselves. */
export function inlineFunctions(nodes: readonly any[], functions: readonly any[]): readonly any[] {
  if (functions.length === 0) return nodes;
  const table = new Map(functions.map((fn) => [keyOf(fn.domain, fn.name), fn]));
  const result: any[] = [];
  let uses = 0;

  const visit = (node: any, depth: number): void => {
    const fn = table.get(keyOf(node.domain, node.op_type));
    if (!fn) {
      result.push(node);
      if (result.length > MOST_NODES)
        throw new GraphError(`more than ${MOST_NODES} nodes after inlining functions`);
      return;
    }
    if (depth > DEEPEST) {
      throw new GraphError(
        `function ${JSON.stringify(fn.name)} is nested deeper than ${DEEPEST}: does it use itself?`,
      );
    }
    const prefix = `${fn.name}.${uses++}/`;
    const names = new Map<string, string>([["", ""]]);
    fn.input.forEach((name: string, i: number) => {
      names.set(name, node.input[i] ?? "");
    });
    fn.output.forEach((name: string, i: number) => {
      if (node.output[i]) names.set(name, node.output[i]);
    });
    const renamed = (name: string) => {
      const known = names.get(name);
      if (known !== undefined) return known;
      names.set(name, prefix + name);
      return prefix + name;
    };
    for (const inner of fn.node) {
      visit(
        {
          ...inner,
          name: prefix + inner.name,
          input: inner.input.map(renamed),
          output: inner.output.map(renamed),
          attribute: inner.attribute.flatMap((a: any) => resolved(a, node, fn)),
        },
        depth + 1,
      );
    }
  };
  for (const node of nodes) visit(node, 0);
  return result;
}

const keyOf = (domain: string, name: string) => `${domain === "ai.onnx" ? "" : domain}:${name}`;

/** An attribute of a body's node: as it is, or the one of the use or the function's default that it refers to. */
function resolved(attribute: any, use: any, fn: any): any[] {
  if (attribute.ref_attr_name === "") return [attribute];
  const named = ({ name }: any) => name === attribute.ref_attr_name;
  const value = use.attribute.find(named) ?? fn.attribute_proto.find(named);
  return value ? [{ ...value, name: attribute.name }] : [];
}
