/**
 * What is measured of a device that joins a run: its own times, and its lines to some of those that are there, which work on
 * meanwhile. A device like one that is known, of the same machine with the same engine, is not measured again.
 *
 * Lines to the others are estimated: a line between machines is mostly as fast as the slower of both ends' own, which
 * those to anybody else say as well. So what has to be measured does not grow with the number of devices.
 */

import type { Ref } from "../runtime/index.ts";
import type { Device, DeviceDescription } from "./device.ts";
import { type ClusterRequest, deviceProfile, linkProfile, profileRequest, roundTripMs } from "./profile.ts";
import { profileKey } from "./profile-cache.ts";
import { isThere } from "./recovery/links.ts";
import { turnOf } from "./recovery/turns.ts";
import type { DeviceProfile, LinkProfile, Profile } from "./scheduler/cost.ts";
import type { Plan } from "./scheduler/plan.ts";

/** Lines to so many others are measured; where there are no more, all are. */
export const MOST_PEERS = 8;

/** A device of a run. */
export interface Known {
  /** Plan id. */
  readonly id: string;
  readonly description: DeviceDescription;
  readonly device: Ref<Device>;
}

/** What of a cluster's measurements a single device needs too. */
export type JoinRequest = Omit<ClusterRequest, "linked">;

/** What was measured of a device that joins. */
export interface JoinedProfile {
  readonly id: string;
  readonly host: string;
  /** What its own times are kept under. */
  readonly key: string;
  readonly own: DeviceProfile;
  readonly controlMs: number;
  /** Lines to and from others, by their ids. */
  readonly links: readonly {
    readonly other: string;
    readonly there: LinkProfile;
    readonly back: LinkProfile;
  }[];
}

/**
 * @param others that live, with what is known of them. @param peers of those, whom its lines are measured to.
 * @throws what the device fails with.
 */
export async function profileJoining(
  joining: Known,
  others: readonly Known[],
  peers: readonly Known[],
  { devices }: Pick<Profile, "devices">,
  request: JoinRequest,
): Promise<JoinedProfile> {
  const { id, device, description } = joining;
  const { host, engine } = description;
  const asked = profileRequest(request);
  const key = profileKey(description, asked);
  const like = others.find((other) => {
    const { description: own } = other;
    return own.host === host && own.engine === engine && devices[other.id];
  });
  const own = like ? devices[like.id]! : await measured(device, key, request, asked);
  const links: JoinedProfile["links"][number][] = [];
  for (const other of peers) {
    try {
      const there = await linkProfile(device, other.device);
      const back = await linkProfile(other.device, device);
      links.push({ other: other.id, there, back });
    } catch {
      // One of them is gone: of the other it is told elsewhere, of this one below.
    }
  }
  return { id, host, key, own, links, controlMs: await roundTripMs(device, request.now) };
}

/**
 * Those whose lines to a device that joins are measured: one of its own machine, if there is one, and of others one
 * from each stage of the plan after the other, on machines as different as can be.
 */
export function peersOf(joining: Known, others: readonly Known[], { stages }: Pick<Plan, "stages">): Known[] {
  if (others.length <= MOST_PEERS) return [...others];
  const stageOf = new Map(
    stages.flatMap(({ members, stage }) => members.map(({ device }) => [device, stage] as const)),
  );
  const { host } = joining.description;
  const isHere = (other: Known) => other.description.host === host;
  const away = others.filter((other) => !isHere(other));
  const groups = [...Map.groupBy(away, ({ id }) => stageOf.get(id) ?? -1).values()].map((group) => {
    // Not all who come at once go to the same.
    const first = turnOf(joining.id, group.length);
    return [...group.slice(first), ...group.slice(0, first)];
  });
  const peers = others.filter(isHere).slice(0, 1);
  const hosts = new Set<string>();
  for (let turn = 0; peers.length < MOST_PEERS && groups.some(({ length }) => length > 0); turn++) {
    const group = groups[turn % groups.length]!;
    if (group.length === 0) continue;
    const fresh = group.findIndex(({ description }) => !hosts.has(description.host));
    const [next] = group.splice(Math.max(0, fresh), 1);
    hosts.add(next!.description.host);
    peers.push(next!);
  }
  return peers;
}

/** A profile with a device in it that has joined, and estimates of its lines to those they were not measured to. */
export function withJoined(profile: Profile, joined: JoinedProfile): Profile {
  const { cores, hosts = {}, controlMs = {}, ...rest } = profile;
  const { id, host, own } = joined;
  const links: Record<string, Record<string, LinkProfile>> = { ...profile.links };
  const from: Record<string, LinkProfile> = {};
  const set = (other: string, there: LinkProfile | undefined, back: LinkProfile | undefined) => {
    if (there) from[other] = there;
    if (back) links[other] = { ...links[other], [id]: back };
  };
  for (const { other, there, back } of joined.links) set(other, there, back);
  const isLocal = (other: string) => hosts[other] === host;
  const near = joined.links.find(({ other }) => isLocal(other));
  const far = joined.links.filter(({ other }) => !isLocal(other));
  const ownLine = { there: best(far.map(({ there }) => there)), back: best(far.map(({ back }) => back)) };
  for (const other of Object.keys(profile.devices)) {
    if (other === id || joined.links.some((link) => link.other === other)) continue;
    if (isLocal(other)) {
      set(other, near?.there, near?.back);
      continue;
    }
    // A line carries as much one way as the other as far as nobody has measured it.
    const row = Object.entries(profile.links[other] ?? {});
    const line = best(row.flatMap(([to, link]) => (hosts[to] === hosts[other] ? [] : [link])));
    set(other, slower(ownLine.there, line), slower(line, ownLine.back));
  }
  links[id] = from;
  const isAlone = Object.values(hosts).every((each) => each === host);
  return {
    ...{ ...rest, links, devices: { ...profile.devices, [id]: own } },
    controlMs: { ...controlMs, [id]: joined.controlMs },
    hosts: { ...hosts, [id]: host },
    ...(isAlone && cores !== undefined && { cores }),
  };
}

/** The fastest and the shortest that a device's lines were found to be; undefined where none is known. */
function best(links: readonly LinkProfile[]): LinkProfile | undefined {
  const all = links.filter(isThere);
  if (all.length === 0) return undefined;
  return {
    latencyMs: Math.min(...all.map(({ latencyMs }) => latencyMs)),
    bytesPerMs: Math.max(...all.map(({ bytesPerMs }) => bytesPerMs)),
  };
}

/** A line as slow as either end; of one that nothing is known of, as the other. */
function slower(a: LinkProfile | undefined, b: LinkProfile | undefined): LinkProfile | undefined {
  if (!a || !b) return a ?? b;
  return {
    latencyMs: Math.max(a.latencyMs, b.latencyMs),
    bytesPerMs: Math.min(a.bytesPerMs, b.bytesPerMs),
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
