/**
 * Stages that were made ready for a plan before the run goes over to it (`recovery/preparing.ts`): when it does, they become
 * its workers, told which step it is behind and where the others are. They have compiled what they run and hold what training
 * does not change; what it does change they are given with everyone else.
 */

import { dealingOf, type StageSpec } from "../stage/spec.ts";
import { type DeployOptions, isSame, isSameButDealt, type Placed } from "./handover.ts";
import type { Worker } from "./plan.ts";

/** Whether a stage can become this worker. Its number, and whose micro-batches are whose, it is told then. */
export function canBecome(
  { worker, spec }: Pick<Placed, "worker" | "spec">,
  next: Worker,
  nextSpec: StageSpec,
): boolean {
  if (worker.member.device !== next.member.device) return false;
  return isSame(spec, nextSpec) || isSameButDealt(spec, nextSpec);
}

/**
 * Has stages become workers of the plan that is gone over to.
 * @param step that the run is behind. @param lacking workers that have none.
 * @returns by worker; without those that could not.
 */
export async function takeIn(
  prepared: readonly Placed[],
  { generation }: Pick<DeployOptions, "generation">,
  step: number,
  lacking: readonly Worker[],
  specs: readonly StageSpec[],
): Promise<ReadonlyMap<number, Placed>> {
  const left = new Set(prepared);
  const taken = new Map<number, Placed>();
  await Promise.all(
    lacking.map(async (worker) => {
      const spec = specs[worker.worker]!;
      const ready = [...left].find((each) => canBecome(each, worker, spec));
      if (!ready) return;
      left.delete(ready);
      const { name, stage, holdings } = ready;
      const resumed = await stage.ask.resume(generation, step, dealingOf(spec)).catch(() => null);
      if (resumed) taken.set(worker.worker, { worker, spec, name, stage, holdings, has: "fixed" });
    }),
  );
  return taken;
}
