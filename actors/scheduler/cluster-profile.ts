/**
 * What a model would cost on devices that are not there: times from counts of operations and bytes, in the place of
 * measured ones. A pass through a segment takes as long as its products at the device's speed, or as its bytes at its
 * memory's, whichever is longer (the roofline; Williams, Waterman, Patterson, CACM 2009); the backward pass has twice the
 * products. Good for comparing plans; a device that is there is measured instead.
 */

import type { Cluster, ClusterDevice } from "./cluster.ts";
import type { DeviceProfile, Profile } from "./cost.ts";

/** Of one micro-batch through a segment. */
export interface SegmentWork {
  /** Of its forward pass; a multiplication and its addition are two. */
  readonly flops: number;
  readonly parameterBytes: number;
  /** What the forward pass keeps, which is about what it writes. */
  readonly stashBytes: number;
  /** Of what the optimiser keeps; AdamW's two moments when left out. */
  readonly stateBytes?: number;
}

/** A profile of every device of the cluster; devices alike share their times. */
export function clusterProfile(cluster: Cluster, segments: readonly SegmentWork[]): Profile {
  const alike = new Map<string, DeviceProfile>();
  const devices = cluster.devices.map((device): [string, DeviceProfile] => {
    const key = `${device.gflops} ${device.memoryGBps}`;
    const times = alike.get(key) ?? timesOn(device, segments);
    alike.set(key, times);
    return [device.id, times];
  });
  const hosts = Object.fromEntries(cluster.devices.map(({ id }) => [id, id]));
  return { devices: Object.fromEntries(devices), links: cluster.links, hosts };
}

/** Times of every segment on a device. */
export function timesOn(
  { gflops, memoryGBps }: Pick<ClusterDevice, "gflops" | "memoryGBps">,
  segments: readonly SegmentWork[],
): DeviceProfile {
  // Giga in a second is a million in a millisecond.
  const longer = (flops: number, bytes: number) =>
    Math.max(flops / (gflops * 1e6), bytes / (memoryGBps * 1e6));
  return {
    forwardMs: segments.map((s) => longer(s.flops, s.parameterBytes + s.stashBytes)),
    // Reads what was kept and the parameters, writes gradients of as much.
    backwardMs: segments.map((s) => longer(2 * s.flops, 2 * (s.parameterBytes + s.stashBytes))),
    // Reads gradients, reads and writes parameters and state.
    stepMs: segments.map((s) => longer(0, 3 * s.parameterBytes + 2 * (s.stateBytes ?? 2 * s.parameterBytes))),
  };
}
