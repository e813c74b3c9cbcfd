/**
 * A plan in which others take the places of devices that are lost: pure. Stages stay as they are, so nothing moves but
 * what is lost, and most often that is where it goes already: with whoever has a copy. It is a plan to go on with at once,
 * not the best one for the devices that are left.
 */

import { GONE, type Plan, type Worker, workersOf } from "../scheduler/plan.ts";

export interface Successor {
  readonly id: string;
  readonly name: string;
}

/** Why a device is not used that was lost, and is there again. */
const BACK = "left out so far: it was gone";

/** Whether somebody is there whom a plan does without because they were gone, or does not know. */
export function comesAgain({ devices }: Plan, alive: readonly Successor[]): boolean {
  const known = new Map(devices.map((device) => [device.id, device]));
  return alive.some(({ id }) => (known.get(id)?.reason ?? GONE) === GONE);
}

/** The plan as it is told: of who was lost and is there again, it is not said that they are gone. @param there names of all that are. */
export function toldOf(plan: Plan, there: readonly string[]): Plan {
  const isBack = ({ name, reason }: Plan["devices"][number]) => reason === GONE && there.includes(name);
  const devices = plan.devices.map((each) => (isBack(each) ? { ...each, reason: BACK } : each));
  return { ...plan, devices };
}

/**
 * @param lost device ids. @param alive in the order of the plan's ids.
 * @param near devices that have what a worker holds, or the same.
 * @returns null where nobody is left.
 */
export function takeover(
  plan: Plan,
  lost: ReadonlySet<string>,
  alive: readonly Successor[],
  near: (worker: Worker) => readonly string[],
): Plan | null {
  if (alive.length === 0) return null;
  const names = new Map(alive.map(({ id, name }) => [id, name]));
  /** Milliseconds of kernels that each has in a step. */
  const load = new Map(alive.map(({ id }) => [id, 0]));
  const workers = workersOf(plan);
  const add = ({ member }: Worker, device: string) => {
    const ms = member.microBatches.length * (member.forwardMs + member.backwardMs);
    load.set(device, load.get(device)! + ms);
  };
  for (const worker of workers) if (names.has(worker.member.device)) add(worker, worker.member.device);
  const successors = new Map<number, string>();
  for (const worker of workers) {
    if (!lost.has(worker.member.device)) continue;
    const close = near(worker).filter((id) => names.has(id));
    const among = close.length > 0 ? close : [...names.keys()];
    const chosen = among.reduce((a, b) => (load.get(b)! < load.get(a)! ? b : a));
    successors.set(worker.worker, chosen);
    add(worker, chosen);
  }
  let next = 0;
  const stages = plan.stages.map((stage) => ({
    ...stage,
    members: stage.members.map((member) => {
      const device = successors.get(next++);
      return device === undefined ? member : { ...member, device, deviceName: names.get(device)! };
    }),
  }));
  const gone = (id: string) => lost.has(id);
  const used = new Set(stages.flatMap(({ members }) => members.map(({ device }) => device)));
  // Those of whom the plan did not know have come since.
  const listed = new Set(plan.devices.map(({ id }) => id));
  const come = alive
    .filter(({ id }) => used.has(id) && !listed.has(id))
    .map(({ id, name }) => ({ id, name, used: true, reason: "" }));
  const devices = [...plan.devices, ...come].map((device) => {
    if (gone(device.id)) return { ...device, used: false, reason: GONE };
    const isBack = device.reason === GONE && names.has(device.id);
    if (!used.has(device.id)) return isBack ? { ...device, reason: BACK } : device;
    const taken = workers.filter(({ worker }) => successors.get(worker) === device.id);
    if (taken.length === 0) return device;
    const from = taken
      .map(({ member, stage }) => `stage ${stage.stage + 1} of ${member.deviceName}`)
      .join(", ");
    return { ...device, used: true, reason: `takes over ${from}` };
  });
  return { ...plan, stages, devices };
}
