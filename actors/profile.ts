/**
 * What a cluster is measured as: every device its own times of the model's segments, and every link in both directions.
 * The result is plain data for the planner; measuring is the devices' work, and this says who measures when.
 *
 * Devices of one machine would disturb each other and are measured one after the other, those of different machines at
 * the same time. Links follow, in rounds of pairs that have no device in common.
 */

import { type Model, rolesWithin } from "../nn/model.ts";
import { encodeModel } from "../nn/onnx/proto.ts";
import type { OptimizerConfig } from "../nn/optim/optimizer.ts";
import { median } from "../nn/profile/rounds.ts";
import type { ModelProfile, SegmentProfile } from "../nn/profile.ts";
import type { Segment } from "../nn/segments.ts";
import { SHARD_KINDS, type ShardKind } from "../nn/shards/plan.ts";
import { Tensor } from "../protocols/tensor.ts";
import type { Ref } from "../runtime/index.ts";
import type { Device, DeviceDescription, ProfileRequest } from "./device.ts";
import { type ProfileCache, profileKey } from "./profile-cache.ts";
import { linkRounds } from "./profile-links.ts";
import { isLinkFailure, UNREACHABLE } from "./recovery/links.ts";
import type { DeviceProfile, LinkProfile, Profile, SegmentCost, ShardedTimes } from "./scheduler/cost.ts";
import { segmentSizes } from "./scheduler/parts.ts";
import { shardedSegments } from "./scheduler/sharding.ts";

export interface ClusterRequest {
  readonly model: Model;
  readonly segments: readonly Segment[];
  readonly microBatches: number;
  readonly optimizer: OptimizerConfig;
  /** Milliseconds of runs on each machine, shared by the devices it hosts: they are measured in turn. */
  readonly budgetMs: number;
  /** Whether B and W are measured apart. */
  readonly split: boolean;
  /** Ways to share work inside a micro-batch that are measured. */
  readonly sharings: readonly ShardKind[];
  /** Where profiles of earlier runs are; all devices are measured when left out. */
  readonly cache?: Pick<ProfileCache, "get" | "put">;
  /** The time in milliseconds. */
  readonly now: () => number;
  /** Which links are measured, by the devices' places; all when left out. */
  readonly linked?: (from: number, to: number) => boolean;
}

export interface ClusterProfile {
  readonly segments: readonly SegmentCost[];
  readonly profile: Profile;
  /** By device, in the order given: what its profile is kept under in a cache, to be dropped when the device has drifted. */
  readonly keys: readonly string[];
}

/**
 * Measures all devices and their links.
 * @param ids of the devices in the profile; their places, as text, when left out.
 * @throws what a device or its engine fails with.
 */
export async function profileCluster(
  devices: readonly Ref<Device>[],
  descriptions: readonly DeviceDescription[],
  request: ClusterRequest,
  ids: readonly string[] = devices.map((_, i) => `${i}`),
): Promise<ClusterProfile> {
  const { model, optimizer, linked = () => true } = request;
  const { profiles: measured, keys } = await profileDevices(devices, descriptions, request);
  const links: Record<string, Record<string, LinkProfile>> = {};
  for (const id of ids) links[id] = {};
  for (const round of linkRounds(descriptions)) {
    await Promise.all(
      round.map(async ([a, b]) => {
        // One direction after the other: on some media they share the line.
        for (const [from, to] of [
          [a, b],
          [b, a],
        ] as const) {
          if (linked(from, to))
            links[ids[from]!]![ids[to]!] = await linkProfile(devices[from]!, devices[to]!);
        }
      }),
    );
  }
  const controlMs = await Promise.all(devices.map((device) => roundTripMs(device, request.now)));
  const stashes = measured[0]!.segments.map(({ stashBytes }) => stashBytes);
  const sharded =
    request.sharings.length > 0
      ? shardedSegments(model, request.segments, stashes, request.sharings)
      : undefined;
  const segments = request.segments.map((segment): SegmentCost => {
    const { index } = segment;
    const { stashBytes, workingBytes } = measured[0]!.segments[index]!;
    const trained = request.segments[index + 1]?.inputTrained ?? true;
    return {
      name: `segment ${index}`,
      trained,
      ...segmentSizes(model, segment, optimizer),
      ...{ stashBytes, workingBytes },
      ...(sharded && { sharded: sharded[index]! }),
    };
  });
  const hosts = new Set(descriptions.map(({ host }) => host));
  return {
    ...{ segments, keys },
    profile: {
      devices: Object.fromEntries(measured.map((profile, i) => [ids[i]!, deviceProfile(profile)])),
      links,
      controlMs: Object.fromEntries(controlMs.map((ms, i) => [ids[i]!, ms])),
      hosts: Object.fromEntries(descriptions.map(({ host }, i) => [ids[i]!, host])),
      ...(hosts.size === 1 && { cores: descriptions[0]!.cores }),
    },
  };
}

/** Ways to share work inside a micro-batch that plans of a strategy may have. */
export function shardKindsOf(strategy: string): readonly ShardKind[] {
  if (strategy === "auto" || strategy === "hybrid") return SHARD_KINDS;
  return SHARD_KINDS.filter((kind) => kind === strategy);
}

const PROFILE_MS = 2000;

/** What there is to measure for plans of these options: the same for whoever plans, so that profiles are found again. */
export function measuredFor(
  { strategy, schedule }: { readonly strategy: string; readonly schedule: string },
  budgetMs = PROFILE_MS,
): Pick<ClusterRequest, "budgetMs" | "split" | "sharings" | "linked"> {
  return {
    budgetMs,
    split: schedule === "zero-bubble" || schedule === "auto",
    sharings: shardKindsOf(strategy),
    linked: () => strategy !== "single",
  };
}

/** What a device is asked to measure. */
export function profileRequest({
  model,
  microBatches,
  optimizer,
  budgetMs,
  split,
  sharings,
}: Omit<ClusterRequest, "linked">): ProfileRequest {
  const bytes = encodeModel(model.graph);
  return {
    graph: new Tensor("u8", [bytes.byteLength], bytes),
    roles: rolesWithin(model, model.graph),
    ...{ microBatches, optimizer, budgetMs, split, sharings },
  };
}

async function profileDevices(
  devices: readonly Ref<Device>[],
  descriptions: readonly DeviceDescription[],
  clusterRequest: ClusterRequest,
): Promise<{ profiles: readonly ModelProfile[]; keys: readonly string[] }> {
  const { budgetMs, cache } = clusterRequest;
  const request = profileRequest(clusterRequest);
  const keys = descriptions.map((device) => profileKey(device, request));
  const profiles: (ModelProfile | undefined)[] = [];
  for (const key of keys) profiles.push(await cache?.get(key));
  const unknown = [...devices.keys()].filter((i) => !profiles[i]);
  const hosts = Map.groupBy(unknown, (i) => descriptions[i]!.host);
  await Promise.all(
    [...hosts.values()].map(async (own) => {
      // Devices of one machine with one engine are alike: one of them is measured for all.
      const alike = [...Map.groupBy(own, (i) => descriptions[i]!.engine).values()];
      const each = { ...request, budgetMs: budgetMs / alike.length };
      for (const group of alike) {
        const profile = await devices[group[0]!]!.ask.profile(each);
        for (const i of group) profiles[i] = profile;
      }
    }),
  );
  for (const i of unknown) await cache?.put(keys[i]!, profiles[i]!);
  return { profiles: profiles as ModelProfile[], keys };
}

/**
 * Of the link from one device to another, which may be that there is none though both are there.
 * @throws what measuring it fails with.
 */
export async function linkProfile(from: Ref<Device>, to: Ref<Device>): Promise<LinkProfile> {
  try {
    return await from.ask.measureLink(to);
  } catch (error) {
    if (!isLinkFailure(error)) throw error;
    await Promise.all([from.ask.usage(), to.ask.usage()]);
    return UNREACHABLE;
  }
}

const ROUND_TRIPS = 5;

/** Of a message to a device that answers at once. */
export async function roundTripMs(device: Ref<Device>, now: () => number): Promise<number> {
  const trips: number[] = [];
  for (let i = 0; i < ROUND_TRIPS; i++) {
    const start = now();
    await device.ask.describe();
    trips.push(now() - start);
  }
  return median(trips);
}

/** A model's profile on one device, in the planner's columns. */
export function deviceProfile({ segments, chunk }: ModelProfile): DeviceProfile {
  const column = (of: (segment: SegmentProfile) => number) => segments.map(of);
  const isSplit = segments.every(({ backwardInputMs }) => backwardInputMs !== undefined);
  const kinds = [...new Set(segments.flatMap(({ sharded = {} }) => Object.keys(sharded)))] as ShardKind[];
  const sharded = kinds.map((kind): [ShardKind, ShardedTimes] => {
    const of = (value: "forwardMs" | "backwardMs") =>
      column((segment) => segment.sharded?.[kind]?.[value] ?? segment[value]);
    const { ranks } = segments.find((segment) => segment.sharded?.[kind])!.sharded![kind]!;
    return [kind, { ranks, forwardMs: of("forwardMs"), backwardMs: of("backwardMs") }];
  });
  return {
    forwardMs: column(({ forwardMs }) => forwardMs),
    backwardMs: column(({ backwardMs }) => backwardMs),
    stepMs: column(({ stepMs }) => stepMs),
    jointMs: column(({ jointMs }) => jointMs),
    ...(isSplit && {
      backwardInputMs: column(({ backwardInputMs }) => backwardInputMs!),
      backwardWeightMs: column(({ backwardWeightMs }) => backwardWeightMs!),
    }),
    ...(kinds.length > 0 && { sharded: Object.fromEntries(sharded) }),
    chunk,
  };
}
