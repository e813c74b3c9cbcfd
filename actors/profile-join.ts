/**
 * What is measured of a device that joins a run: its own times, and its lines to those that are there, which work on
 * meanwhile. A device like one that is known, of the same machine with the same engine, is not measured again.
 */

import type { Ref } from "../runtime/index.ts";
import type { Device, DeviceDescription } from "./device.ts";
import { type ClusterRequest, deviceProfile, linkProfile, profileRequest, roundTripMs } from "./profile.ts";
import { profileKey } from "./profile-cache.ts";
import type { DeviceProfile, LinkProfile, Profile } from "./scheduler/cost.ts";

/** A device of a run. */
export interface Known {
  /** Plan id. */
  readonly id: string;
  readonly description: DeviceDescription;
  readonly device: Ref<Device>;
}

/** What of a cluster's measurements a single device needs too. */
export type JoinRequest = Omit<ClusterRequest, "linked">;

/**
 * @param profile of those that are there. @param others of them that live.
 * @returns the profile with the joining device in it, and what its own is kept under.
 * @throws what the device fails with.
 */
export async function profileJoining(
  joining: Known,
  others: readonly Known[],
  profile: Profile,
  request: JoinRequest,
): Promise<{ readonly profile: Profile; readonly key: string }> {
  const { id, device, description } = joining;
  const asked = profileRequest(request);
  const key = profileKey(description, asked);
  const like = others.find((other) => {
    const { host, engine } = other.description;
    return host === description.host && engine === description.engine && profile.devices[other.id];
  });
  const own = like ? profile.devices[like.id]! : await measured(device, key, request, asked);
  const links: Record<string, Readonly<Record<string, LinkProfile>>> = { ...profile.links };
  const from: Record<string, LinkProfile> = {};
  for (const other of others) {
    try {
      const there = await linkProfile(device, other.device);
      const back = await linkProfile(other.device, device);
      from[other.id] = there;
      links[other.id] = { ...links[other.id], [id]: back };
    } catch {
      // One of them is gone: of the other it is told elsewhere, of this one below.
    }
  }
  links[id] = from;
  const { cores, hosts = {}, controlMs = {}, ...rest } = profile;
  const isAlone = Object.values(hosts).every((host) => host === description.host);
  return {
    key,
    profile: {
      ...{ ...rest, links, devices: { ...profile.devices, [id]: own } },
      controlMs: { ...controlMs, [id]: await roundTripMs(device, request.now) },
      hosts: { ...hosts, [id]: description.host },
      ...(isAlone && cores !== undefined && { cores }),
    },
  };
}

async function measured(
  device: Ref<Device>,
  key: string,
  { cache }: JoinRequest,
  asked: ReturnType<typeof profileRequest>,
): Promise<DeviceProfile> {
  const known = await cache?.get(key);
  const own = known ?? (await device.ask.profile(asked));
  if (!known) await cache?.put(key, own);
  return deviceProfile(own);
}
