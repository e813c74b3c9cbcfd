/**
 * The energy of a device where nobody measures it: what it takes doing nothing, what it takes more while it computes,
 * and what every byte costs that it sends or receives.
 *
 *     E = P_idle · t  +  (P_busy − P_idle) · t_busy  +  e_sent · bytes sent  +  e_received · bytes received
 *
 * Power linear in use is what measurements of whole computers show (Fan, Weber, Barroso, "Power Provisioning for a
 * Warehouse-sized Computer", ISCA 2007), and a constant per byte what those of network interfaces show at a given rate
 * (Balasubramanian et al., "Energy Consumption in Mobile Phones", IMC 2009). It leaves out temperature, clock rates that
 * change, and what a transfer costs whose radio had been asleep. Whoever prints a figure of it says that it is modelled.
 */

/** What a device takes, of the whole of it. */
export interface DevicePower {
  readonly idleWatts: number;
  /** While it trains, with no network. */
  readonly busyWatts: number;
  /** What sending, or receiving, costs above that. */
  readonly sentJoulesPerByte: number;
  readonly receivedJoulesPerByte: number;
}

/** What a device did. */
export interface DeviceWork {
  /** In kernels. Of more than has elapsed (two stages on one device), as much counts as has elapsed. */
  readonly busyMs: number;
  readonly sentBytes: number;
  readonly receivedBytes: number;
}

/** What it did in some time. */
export interface Activity extends DeviceWork {
  readonly elapsedMs: number;
}

/** Where joules went. */
export interface Joules {
  /** All of them. */
  readonly joules: number;
  /** Taken as if it had done nothing all the time. */
  readonly idleJoules: number;
  /** Taken for kernels, above that. */
  readonly busyJoules: number;
  readonly networkJoules: number;
}

/** The energy of one device, by the formula above. */
export function joulesOf(power: DevicePower, activity: Activity): Joules {
  const { elapsedMs, busyMs, sentBytes, receivedBytes } = activity;
  const idleJoules = (power.idleWatts * elapsedMs) / 1000;
  const busyJoules = ((power.busyWatts - power.idleWatts) * Math.min(busyMs, elapsedMs)) / 1000;
  const networkJoules = power.sentJoulesPerByte * sentBytes + power.receivedJoulesPerByte * receivedBytes;
  return { joules: idleJoules + busyJoules + networkJoules, idleJoules, busyJoules, networkJoules };
}

/** One device in a training step. */
export interface DeviceStep extends DeviceWork {
  /** Its id. */
  readonly device: string;
  readonly power: DevicePower;
}

export interface StepEnergy {
  readonly joulesPerStep: number;
  readonly joulesPerSample: number;
  readonly devices: readonly (Joules & { readonly device: string })[];
}

/**
 * The energy of a training step of so many samples. A device that waits takes its idle watts all the same, so that the
 * length of the step counts once for each of them.
 */
export function energyOf(stepMs: number, samples: number, devices: readonly DeviceStep[]): StepEnergy {
  const each = devices.map(({ device, power, ...activity }) => ({
    device,
    ...joulesOf(power, { elapsedMs: stepMs, ...activity }),
  }));
  const joulesPerStep = each.reduce((sum, { joules }) => sum + joules, 0);
  return { joulesPerStep, joulesPerSample: joulesPerStep / samples, devices: each };
}
