/** What each worker of a plan sends and receives in a step, which costs energy. */

import { collectiveBytes } from "../../../nn/shards/plan.ts";
import { isSharded, type Plan } from "../plan.ts";
import type { PlanCost } from "../plan-cost.ts";
import { isOfMicroBatch, positionOf } from "../program.ts";
import { Routes } from "../routes.ts";
import type { CollectiveCost } from "../run-cost.ts";
import { sentBy } from "../simulate/collective.ts";

export interface Traffic {
  sentBytes: number;
  receivedBytes: number;
}

/** By worker: activations and their gradients, collectives within passes, and gradients that are added up. */
export function sentBytes(plan: Plan, { programs, run }: PlanCost): readonly Traffic[] {
  const routes = new Routes(plan);
  const traffic = programs.map((): Traffic => ({ sentBytes: 0, receivedBytes: 0 }));
  programs.forEach((program, worker) => {
    const own = traffic[worker]!;
    const { stage, rank } = routes.workers[worker]!;
    const among = stage.members.length;
    const machine = (worker: number) => run.interfaces?.[worker]?.machine ?? worker;
    const send = (to: number, bytes: number) => {
      // What stays within a machine goes through no network.
      if (machine(to) === machine(worker)) return;
      own.sentBytes += bytes;
      traffic[to]!.receivedBytes += bytes;
    };
    const shares = stage.members.map(({ share }) => share);
    const addUp = (bytes: number, isEncoded: boolean, every = 1) => {
      for (const sent of sentBy({ op: "all-reduce", bytes, ranks: among, isEncoded }, rank)) {
        send(worker - rank + sent.to, sent.bytes / every);
      }
    };
    const meet = ({ op, bytes }: CollectiveCost) => {
      if (op === "all-reduce") addUp(bytes, false);
      else send(worker - rank + ((rank + 1) % among), collectiveBytes(op, bytes, shares, rank));
    };
    const summed = new Set<number>();
    const sum = (chunk: number) => {
      summed.add(chunk);
      const { gradientBytes, sumEvery } = run.chunks[worker]![chunk]!;
      addUp(gradientBytes, run.encodesSums === true, sumEvery);
    };
    for (const operation of program.operations) {
      if (operation.op === "step") continue;
      const chunk = operation.chunk ?? 0;
      const cost = run.chunks[worker]![chunk]!;
      if (operation.op === "reduce") sum(chunk);
      if (!isOfMicroBatch(operation)) continue;
      if (isSharded(stage.sharing)) {
        const forward = operation.op === "forward" || operation.op === "forward-backward";
        const backward = operation.op.startsWith("backward") && operation.op !== "backward-weight";
        if (forward) cost.forwardCollectives?.forEach(meet);
        if (backward || operation.op === "forward-backward") cost.backwardCollectives?.forEach(meet);
      }
      const down = operation.op === "send-activation";
      if (!down && operation.op !== "send-gradient") continue;
      const position = positionOf(program, operation);
      const to = down ? position + 1 : position - 1;
      for (const target of routes.targets({ worker }, position, to, operation.microBatch)) {
        // The gradient is as large as the activation that the position before has sent.
        const bytes = down
          ? cost.outputBytes
          : run.chunks[target.worker]![target.positions.indexOf(to)]!.outputBytes;
        send(target.worker, bytes);
      }
    }
    // What no operation adds up is added up before the gate.
    for (const [chunk, position] of program.positions.entries()) {
      if (among > 1 && position >= plan.forwardOnly && !summed.has(chunk)) sum(chunk);
    }
  });
  return traffic;
}
