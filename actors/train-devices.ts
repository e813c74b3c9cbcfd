/** The devices of a run as its events have them: who comes, what a run goes on behind, and who is there at its end. */

import type { Ref } from "../runtime/index.ts";
import type { Device, DeviceUsage } from "./device.ts";
import type { RunMeter } from "./energy/run-meter.ts";
import type { RunHistory } from "./journal/history.ts";
import type { KeepingCost } from "./recovery/keeper.ts";
import type { Known, Unknown } from "./recovery/roster.ts";
import type { Behind, RunRecovery, Scheduler } from "./scheduler/scheduler.ts";
import type { CopiesTold, TrainEvent } from "./train-events.ts";

type Done = Extract<TrainEvent, { event: "done" }>;
type Recovered = Extract<TrainEvent, { event: "recovered" }>;
type Resumed = Extract<TrainEvent, { event: "resumed" }>;

/** A device has come to a run that goes on: it may be used from here on, and counts. @throws what measuring it fails with. */
export async function takeIn(scheduler: Ref<Scheduler>, meter: RunMeter, device: Ref<Device>): Promise<void> {
  const known = await scheduler.ask.join(device);
  await meter.join(Number(known.id), device, known);
}

export function resumedBehind({
  step,
  stepsLost,
  movedBytes,
  fromCheckpoint,
}: Behind): Omit<Resumed, "event"> {
  return {
    step: step + 1,
    steps_lost: stepsLost,
    moved_bytes: movedBytes,
    from_checkpoint: fromCheckpoint,
  };
}

/** What the loss of devices has cost. */
export function recoveredBy(each: RunRecovery): Omit<Recovered, "event"> {
  return {
    ...(each.why !== undefined && { why: each.why }),
    ...{ lost: each.lost, detect_ms: each.detectMs, ready_ms: each.readyMs, resume_ms: each.resumeMs },
    ...{
      steps_lost: each.stepsLost,
      kept_every: each.keptEvery,
      operations_replayed: each.operationsReplayed,
    },
    ...{ moved_bytes: each.movedBytes, from_checkpoint: each.fromCheckpoint, plan: each.plan },
  };
}

/** What copies have cost so far. */
export function copiesOf({ points, every, bytes, measured }: KeepingCost): CopiesTold {
  return { points, every, bytes, cost: measured?.part ?? null };
}

/**
 * Who is there at the end of a run, and who is not. One that came back is there.
 * @param everyone who was ever in the run. @param usage of each; null of those that are gone.
 * @param unknown those of whom that is not known: lost before, or just coming.
 * @param before what it had come to, where another coordinator led it: some may not have been there any more behind that.
 */
export function endedOn(
  everyone: readonly Known[],
  usage: readonly (DeviceUsage | null)[],
  unknown: Unknown,
  before: Pick<RunHistory, "planned"> | null,
): Pick<Done, "devices" | "devices_lost"> {
  const devices = everyone.flatMap(({ id, name }, i) => {
    const used = usage[i];
    return used ? [{ id, name, peak_bytes: used.peakBytes, tensor_bytes: used.tensorBytes }] : [];
  });
  const there = new Set([...devices.map(({ name }) => name), ...unknown.coming]);
  const named = [...(before?.planned?.devices ?? []), ...everyone].map(({ name }) => name);
  const names = new Set([...named, ...unknown.lost]);
  return { devices, devices_lost: [...names].filter((name) => !there.has(name)) };
}
