/**
 * Everything that makes a graph smaller or faster without changing what it computes, in the order that lets one pass
 * work for the next. Each is linear in the graph; all of them together are idempotent.
 */

import type { Graph } from "../onnx/graph.ts";
import { shareCommon } from "./cse.ts";
import { removeDead, removeIdentities } from "./dead.ts";
import { fold } from "./fold.ts";
import { fuseGelu } from "./fuse-gelu.ts";
import { fuseGemm } from "./fuse-gemm.ts";
import { fuseLayout } from "./fuse-layout.ts";
import { fuseNormalisation } from "./fuse-norm.ts";
import { joinCuts } from "./join-cuts.ts";

const PASSES: readonly ((graph: Graph) => Graph)[] = [
  fold,
  removeIdentities,
  shareCommon,
  joinCuts,
  fuseNormalisation,
  fuseGelu,
  removeDead,
  fuseLayout,
  removeDead,
  fuseGemm,
  fuseLayout,
  removeIdentities,
  shareCommon,
  removeDead,
];

/** @throws GraphError for a graph whose shapes cannot be inferred. */
export function simplify(graph: Graph): Graph {
  let before = graph;
  // What one round uncovers (a reshape between functions that are together now) the next one uses; few are needed.
  for (let round = 0; round < MOST_ROUNDS; round++) {
    const after = PASSES.reduce((result, pass) => pass(result), before);
    if (after.nodes.length === before.nodes.length && round > 0) return after;
    before = after;
  }
  return before;
}

const MOST_ROUNDS = 5;
