/**
 * A run goes on with another coordinator: it asks the devices what they have kept of it, and goes on from the latest step
 * of which there are copies of everything, as a further generation of the plan that the journal has. It is a recovery
 * in which nobody need be lost but the one who would have led it (`recovery/`).
 */

import type { Ref } from "../../runtime/index.ts";
import type { MoveWorld } from "../recovery/migration.ts";
import type { Recovered } from "../recovery/recovery.ts";
import type { Replica } from "../recovery/replica.ts";
import { type Successor, takeover } from "../recovery/takeover.ts";
import { Deployment, type DeployOptions } from "../scheduler/deployment.ts";
import type { Held } from "../scheduler/held.ts";
import type { Plan } from "../scheduler/plan.ts";
import type { Stage } from "../stage.ts";
import type { RunHistory } from "./history.ts";
import type { DevicePlace } from "./journal.ts";
import type { KeptCopies } from "./kept.ts";
import type { Continuity, PlanBefore } from "./run-journal.ts";

/**
 * The plan of a history, with the ids that its devices have now. Of one that has come back the plan may know its former lives
 * as well: whoever is there is its last one, and the others are forgotten.
 * @param now those that are there, with their new ids. Each is known again by its address, else by its name.
 */
export function planFor(
  { plan, devices }: NonNullable<RunHistory["planned"]>,
  now: readonly DevicePlace[],
): Plan {
  const left = [...now];
  const ids = new Map<string, string>();
  const find = (same: (a: DevicePlace, b: DevicePlace) => boolean) => {
    for (const device of devices.toReversed()) {
      const at = ids.has(device.id) ? -1 : left.findIndex((other) => same(device, other));
      if (at >= 0) ids.set(device.id, left.splice(at, 1)[0]!.id);
    }
  };
  find((a, b) => a.address === b.address);
  find((a, b) => a.name === b.name);
  // Those that are not there have ids that nobody has.
  const idOf = (id: string) => ids.get(id) ?? `gone-${id}`;
  const used = new Set(plan.stages.flatMap(({ members }) => members.map(({ device }) => device)));
  const there = new Set(devices.flatMap(({ id, name }) => (ids.has(id) ? [name] : [])));
  const isFormer = (id: string, name: string) => !ids.has(id) && !used.has(id) && there.has(name);
  return {
    ...plan,
    stages: plan.stages.map((stage) => ({
      ...stage,
      members: stage.members.map((member) => ({ ...member, device: idOf(member.device) })),
    })),
    devices: plan.devices
      .filter(({ id, name }) => !isFormer(id, name))
      .map((device) => ({ ...device, id: idOf(device.id) })),
  };
}

/** What living devices have kept of a run; the keeper's books have its copies from here on. */
export interface Collected {
  /** Stages that another coordinator had. */
  readonly stages: readonly Held[];
  /** The highest that a device has seen. */
  readonly generation: number;
  /** Devices that have something of what a worker of this generation held. */
  near(generation: number, worker: number): readonly string[];
}

/**
 * Asks devices what they have kept of a run, which is `owner`'s from here on.
 * @param run its name, and the epoch of whoever leads it. @param ids of those that are alive.
 * @throws Superseded where somebody of a later epoch leads it.
 */
export async function collect(
  { devices, owner, keeper }: Pick<MoveWorld, "devices" | "owner" | "keeper">,
  { run, epoch }: Pick<Continuity, "run" | "epoch">,
  ids: readonly string[],
): Promise<Collected> {
  const stages: Held[] = [];
  const places = new Map<string, Set<string>>();
  const note = ({ holding, steps }: KeptCopies, device: string, source: Ref<Stage> | Ref<Replica>) => {
    for (const step of steps) keeper.ledger.add({ holding, step, device, source });
    places.set(holding.worker, (places.get(holding.worker) ?? new Set()).add(device));
  };
  await Promise.all(
    ids.map(async (id) => {
      const kept = await devices[Number(id)]!.ask.attach(run, owner, epoch);
      for (const { stage, kept: own } of kept.stages) {
        stages.push({
          holding: own.holding,
          device: id,
          stage,
          bytes: 0,
          gradientBytes: null,
          isLate: false,
        });
        note(own, id, stage);
      }
      for (const { replica, kept: others } of kept.replicas) {
        keeper.adopt(id, replica);
        for (const each of others) note(each, id, replica);
      }
    }),
  );
  const names = [...places.keys()].map((name) => name.split("/").map(Number) as [number, number]);
  const generations = names.map(([generation]) => generation);
  return {
    stages,
    generation: Math.max(0, ...generations),
    near: (generation, worker) => {
      // It may have been started in an earlier one.
      const started = names.filter(([own, number]) => number === worker && own <= generation);
      return [...(places.get(`${Math.max(...started.map(([own]) => own))}/${worker}`) ?? [])];
    },
  };
}

/**
 * Starts what a run goes on with: its last plan, with what devices have kept of it, or else with its last checkpoint.
 * @param before by the devices' present ids; others take the places of those that are not alive.
 * @param options of a generation that no device has seen.
 * @returns null where no device is alive.
 */
export async function reattach(
  { devices, segments, owner, keeper, clock, restart, fixed }: MoveWorld,
  before: PlanBefore,
  { stages, near }: Collected,
  alive: readonly Successor[],
  options: DeployOptions,
): Promise<Recovered | null> {
  const { ledger } = keeper;
  const living = new Set(alive.map(({ id }) => id));
  const members = before.plan.stages.flatMap((stage) => stage.members.map(({ device }) => device));
  const lost = new Set(members.filter((id) => !living.has(id)));
  const next = takeover(before.plan, lost, alive, ({ worker }) => near(before.generation, worker));
  if (next === null) return null;
  const began = clock.now();
  const fresh = await Deployment.start(next, segments, devices, owner, options);
  const startMs = clock.now() - began;
  try {
    const point = ledger.point(fresh.changingNames());
    let bytes = 0;
    let step = point;
    if (step === null) {
      const begin = await restart();
      await fresh.load(begin.values);
      step = begin.step;
    } else bytes = await fresh.restore(step, ledger, fixed);
    await fresh.keep(step);
    keeper.supersede(stages.filter(({ device }) => living.has(device)));
    return { plan: next, deployment: fresh, step, bytes, startMs, fromCheckpoint: point === null };
  } catch (error) {
    await fresh.end(devices);
    throw error;
  }
}
