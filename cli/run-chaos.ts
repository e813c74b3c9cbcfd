/** The faults of a run that `--chaos` asks for: whom they may come over is known when its devices are there. */

import { Chaos } from "../actors/chaos/chaos.ts";
import type { Fault } from "../actors/chaos/fault.ts";
import { faultText, requireDevices, requireOwn } from "./chaos.ts";
import type { Devices } from "./devices.ts";
import type { TrainSettings } from "./train-options.ts";

/**
 * Arms the devices that are there.
 * @param done steps of the run. @param tell hears in words of each fault that is about to come, or has come; and whether that is known by a loss.
 * @throws UsageError, FaultsRefused in one line.
 */
export async function beginChaos(
  { chaos: { faults, series }, run: { steps } }: TrainSettings,
  devices: Devices,
  done: number,
  tell: (fault: string, isLoss: boolean) => void,
): Promise<Chaos> {
  const names = devices.joined.map(({ name }) => name);
  const own = devices.joined.flatMap(({ name, pid }) => (pid === undefined ? [] : [name]));
  // Who was lost with one that has come need not be back.
  const coming = faults.filter(({ step }) => step >= done);
  requireDevices(coming, names);
  requireOwn(coming, own);
  // Whoever was started elsewhere would not be started again.
  const victims = { names, mortal: own.length === names.length };
  const chaos = new Chaos(
    { faults, series, victims, done, steps },
    {
      clock: devices.node.clock,
      device: (name) => devices.find(name)?.ref,
      told: (fault: Fault, isLoss: boolean) => tell(faultText(fault), isLoss),
    },
  );
  await chaos.begin();
  return chaos;
}

/** Whether what is broken may be there again. */
export function isPassing({ chaos: { faults, series } }: TrainSettings): boolean {
  return series.length > 0 || faults.some(({ forMs }) => forMs !== undefined);
}
