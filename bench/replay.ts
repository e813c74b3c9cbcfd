/**
 * The critical path of a step that was measured: its programs once more, every kernel as long as it was, messages
 * without time. Unlike the scheduler's simulation, which predicts from typical times, each kernel has its own.
 */

import { isOfMicroBatch, type StageProgram } from "../actors/scheduler/program.ts";
import type { StepReport } from "../actors/stage.ts";

/**
 * Milliseconds from the beginning of the step to its last update.
 * @param reports by stage; one chunk of the model at each.
 */
export function replay(
  programs: readonly StageProgram[],
  reports: readonly Pick<StepReport, "spans">[],
): number {
  const stages = programs.map(({ operations }, stage) => {
    const kernels = new Map<string, number>();
    const updates: number[] = [];
    for (const { op, microBatch, kernelMs } of reports[stage]!.spans) {
      if (op === "update") updates.push(kernelMs);
      else kernels.set(`${op} ${microBatch}`, kernelMs);
    }
    return { operations, kernels, updates, next: 0, free: 0 };
  });
  const sent = new Map<string, number>();

  /** Does what it can of a stage's program; whether that was anything. */
  const advance = (index: number): boolean => {
    const stage = stages[index]!;
    const before = stage.next;
    for (; stage.next < stage.operations.length; stage.next++) {
      const operation = stage.operations[stage.next]!;
      if (!isOfMicroBatch(operation)) continue;
      const { op, microBatch } = operation;
      const message = (value: string, to: number) => `${value} ${to} ${microBatch}`;
      if (op === "send-activation") sent.set(message("activation", index + 1), stage.free);
      else if (op === "send-gradient") sent.set(message("gradient", index - 1), stage.free);
      else if (op === "receive-activation" || op === "receive-gradient") {
        const came = sent.get(message(op === "receive-activation" ? "activation" : "gradient", index));
        if (came === undefined) break;
        stage.free = Math.max(stage.free, came);
      } else stage.free += stage.kernels.get(`${op} ${microBatch}`) ?? 0;
    }
    return stage.next > before;
  };
  while (stages.map((_, index) => advance(index)).includes(true));

  // The sums of squares come before the commit gate, which opens when all stages have theirs; the update behind it.
  const gate = Math.max(...stages.map(({ free, updates }) => free + (updates[0] ?? 0)));
  return gate + Math.max(...stages.map(({ updates }) => updates[1] ?? 0));
}
