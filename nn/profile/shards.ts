/**
 * One rank's part of a segment whose work is shared, as probes: its phases run one after the other, on memory of
 * their own and without the collectives between them, which cost the link and not the rank.
 */

import type { Binding, Engine } from "../engine/engine.ts";
import { Arena, type EngineTensors } from "../executor/arena.ts";
import { accumulatorName, sumName } from "../passes/accumulate.ts";
import type { ShardPlan } from "../shards/plan.ts";
import { phaseGraphs } from "../shards/train.ts";

export interface ShardRuns {
  /** Both resolve with kernel milliseconds. */
  forward(): Promise<number>;
  backward(): Promise<number>;
  /** How many runs they consist of. */
  readonly forwardRuns: number;
  readonly backwardRuns: number;
  release(): void;
}

/** Compiles the phases of a rank. @throws EngineError when the engine refuses one; nothing is left behind. */
export async function shardRuns(engine: Engine, plan: ShardPlan, rank: number): Promise<ShardRuns> {
  const arena = new Arena(engine, false);
  try {
    const forward: Binding[] = [];
    const backward: Binding[] = [];
    for (const phase of plan.phases) {
      const graphs = phaseGraphs(plan, phase, rank);
      // What phases hand each other is of no matter here, and names within them may be the same.
      const tensors: EngineTensors = new Map();
      for (const info of graphs.parameters) {
        const sum = arena.allocate(info, "device");
        tensors.set(accumulatorName(info.name), sum);
        tensors.set(sumName(info.name), sum);
      }
      forward.push(arena.bind(await arena.compile(graphs.forward), tensors, new Map(), () => "device"));
      if (!graphs.backward) continue;
      backward.unshift(arena.bind(await arena.compile(graphs.backward), tensors, new Map(), () => "device"));
    }
    const runAll = async (bindings: readonly Binding[]) => {
      let ms = 0;
      for (const binding of bindings) ms += await binding.run();
      return ms;
    };
    return {
      forward: () => runAll(forward),
      backward: () => runAll(backward),
      forwardRuns: forward.length,
      backwardRuns: backward.length,
      release: () => arena.release(),
    };
  } catch (error) {
    arena.release();
    throw error;
  }
}
