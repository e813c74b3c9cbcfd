/** Profiles of simulated devices: made up, and the same whenever somebody asks for the same. */

import type { ProfileCache } from "../../../../actors/profile-cache.ts";
import type { ModelProfile } from "../../../../nn/profile.ts";
import type { Random } from "../../../../runtime/random.ts";
import { pick } from "./shapes.ts";

/** Milliseconds of a segment: some devices are much slower, so that plans with them or without them differ. */
const SEGMENT_MS = [20, 30, 60, 500];

/** @param segments of the model. */
export function madeUpProfiles(segments: number, random: Random): ProfileCache {
  const known = new Map<string, ModelProfile>();
  const get = async (key: string) => {
    const profile = known.get(key) ?? profileOf(segments, pick(random, SEGMENT_MS));
    known.set(key, profile);
    return profile;
  };
  const cache: Pick<ProfileCache, "get" | "put" | "drop"> = {
    get,
    put: async () => {},
    drop: async () => {},
  };
  return cache as ProfileCache;
}

function profileOf(segments: number, ms: number): ModelProfile {
  const segment = { forwardMs: ms, backwardMs: 2 * ms, jointMs: 3 * ms, stepMs: ms / 10 };
  const split = { backwardInputMs: ms, backwardWeightMs: ms };
  return {
    segments: Array.from({ length: segments }, () => ({
      ...{ ...segment, ...split, stashBytes: 100, workingBytes: 0 },
    })),
    chunk: { forwardMs: 0, backwardMs: 0, jointMs: 0, stepMs: 0, otherMs: 0 },
  };
}
