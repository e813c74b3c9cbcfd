/**
 * Having the workers of a plan run as stages on devices: those that stay of the deployment before, and others that are
 * started. What they are to hold is given to them behind that (`deployment.ts`).
 */

import type { Segment } from "../../nn/segments.ts";
import type { Ref } from "../../runtime/index.ts";
import type { Device } from "../device.ts";
import { holdingOf, type StageSpec } from "../stage/spec.ts";
import { DeviceFailed } from "./device-failed.ts";
import { type Before, type DeployOptions, type HandedOver, handOver, type Placed } from "./handover.ts";
import { type Part, partsOf } from "./parts.ts";
import { chunksOf, type Plan, planPrograms, type Worker, workersOf } from "./plan.ts";
import { specsOf } from "./specs.ts";

/** Whom a plan's workers run on. */
export interface Hosts {
  /** By plan id. */
  readonly devices: readonly Ref<Device>[];
  /** For whose life stages run. */
  readonly owner: Ref<any>;
}

export interface Hosted {
  /** Of the model, by position. */
  readonly parts: readonly Part[];
  /** By worker. */
  readonly placed: readonly Placed[];
  /** What has become of the deployment before; undefined where there was none. */
  readonly handed: HandedOver | undefined;
}

/**
 * Starts the workers of a plan, but for those that stay of what was before.
 * @throws ProgramError for a plan that cannot be carried out, DeviceFailed for a device that cannot do its part of it:
 *   nothing that was started is left then.
 */
export async function hostAll(
  plan: Plan,
  segments: readonly Segment[],
  { devices, owner }: Hosts,
  options: DeployOptions,
  before?: Before,
): Promise<Hosted> {
  const parts = partsOf(options.model, segments, chunksOf(plan));
  const specs = specsOf(plan, parts, planPrograms(plan), options);
  const workers = workersOf(plan);
  const handed = before && (await handOver(before, options, workers, specs));
  const hosted = workers.map((worker) => {
    return handed?.staying.get(worker.worker) ?? host({ devices, owner }, worker, specs[worker.worker]!);
  });
  try {
    return { parts, placed: await Promise.all(hosted), handed };
  } catch (error) {
    for (const each of hosted) {
      if ("then" in each) each.then((placed) => endStage(devices, placed)).catch(() => {});
    }
    throw error;
  }
}

/** Starts one of them. @throws DeviceFailed where its device cannot. */
export async function host({ devices, owner }: Hosts, worker: Worker, spec: StageSpec): Promise<Placed> {
  const device = devices[Number(worker.member.device)]!;
  try {
    const stage = await device.ask.host(spec, owner);
    const holdings = await stage.ask.holds();
    return { worker, spec, name: holdingOf(spec, holdings).worker, stage, holdings, has: "nothing" };
  } catch (error) {
    throw new DeviceFailed(worker, error);
  }
}

/** Ends a stage on its device. */
export async function endStage(
  devices: readonly Ref<Device>[],
  { worker, stage }: Pick<Placed, "worker" | "stage">,
): Promise<void> {
  await devices[Number(worker.member.device)]!.ask.end(stage);
}
