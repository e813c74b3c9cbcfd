/**
 * The present plan for other devices: who is gone is dropped, who has come helps where it is needed most, and micro-batches
 * are dealt anew. Stages stay as they are cut, so that hardly anything moves; and nothing is searched, so that it takes a
 * small part of the time of a new plan, as hundreds of devices need that come and go all the time.
 */

import { OWN_COPIES } from "../../recovery/room.ts";
import { changingBytes } from "../cost.ts";
import { chunksOf, type Plan, type PlanDevice, type PlanStage } from "../plan.ts";
import { PlanError } from "../plan-error.ts";
import { type Draft, type DraftStage, type Outcome, residentBytes, type Workshop } from "./draft.ts";
import { finished, withMostCopies, workshopFor } from "./finish.ts";
import { checkOptions, type PlanRequest } from "./options.ts";
import { usedReason } from "./reasons.ts";

/**
 * @param request with the devices that are there.
 * @param present plan; its stages keep those of their members that are there.
 * @throws PlanError where a stage has nobody left and nobody can take its place, or memory is too small.
 */
export function adaptPlan(request: PlanRequest, present: Plan): Plan {
  const checked = checkOptions(request);
  return withMostCopies(request, (copies) => {
    const workshop = workshopFor(request, checked, copies);
    const outcome = new Adapter(request, present, workshop, copies > 0 ? OWN_COPIES : 0).best();
    return finished(request, checked, outcome, copies, reasonsFor(request, outcome.plan.stages));
  });
}

class Adapter {
  private readonly request: PlanRequest;
  private readonly present: Plan;
  private readonly workshop: Workshop;
  private readonly ownCopies: number;

  constructor(request: PlanRequest, present: Plan, workshop: Workshop, ownCopies: number) {
    this.request = request;
    this.present = present;
    this.workshop = workshop;
    this.ownCopies = ownCopies;
  }

  /** @throws PlanError where there is none. */
  best(): Outcome {
    const { devices } = this.request;
    const places = new Map(devices.map(({ id }, place) => [id, place]));
    const used = new Set<number>();
    const left = this.present.stages.map(({ members }) =>
      members.flatMap(({ device }) => {
        const place = places.get(device);
        // Who took the place of a lost one too has a stage of its own, if anybody else has this one.
        if (place === undefined || used.has(place)) return [];
        used.add(place);
        return [place];
      }),
    );
    const unused = devices.map((_, place) => place).filter((place) => !used.has(place));
    for (const [stage, members] of left.entries()) {
      if (members.length > 0) continue;
      const [taken] = this.bySpeed(unused, stage);
      if (taken === undefined)
        throw new PlanError(`nobody is left for stage ${stage}, and nobody else has room`);
      members.push(taken);
      unused.splice(unused.indexOf(taken), 1);
    }
    // Those that the plan had left out, it had a reason for.
    const leftOut = new Set(this.present.devices.filter((device) => !device.used).map(({ id }) => id));
    const come = unused.filter((place) => !leftOut.has(devices[place]!.id));
    let refused: PlanError | undefined;
    let best: Outcome | undefined;
    for (const members of [
      left,
      // A micro-batch on a slow device is waited for by whoever is next.
      ...(come.length > 0 ? [this.joined(left, come, true), this.joined(left, come, false)] : []),
      ...(unused.length > come.length ? [this.joined(left, unused, true)] : []),
    ]) {
      const outcome = this.workshop.outcome(this.draft(members));
      if (outcome instanceof PlanError) refused ??= outcome;
      else if (!best || outcome.score < best.score) best = outcome;
    }
    if (!best) throw refused ?? new PlanError("the present plan is not for these devices");
    return best;
  }

  /**
   * Members of each stage with these devices among them, each in turn where work takes longest.
   * @param keepsPace only where somebody is who is no faster.
   */
  private joined(
    left: readonly (readonly number[])[],
    more: readonly number[],
    keepsPace: boolean,
  ): number[][] {
    const stages = left.map((members) => [...members]);
    const slowest = left.map((members, stage) => {
      return keepsPace
        ? Math.max(...members.map((place) => this.passMs(place, stage)))
        : Number.POSITIVE_INFINITY;
    });
    const speeds = stages.map((members, stage) =>
      members.reduce((sum, place) => sum + 1 / this.passMs(place, stage), 0),
    );
    const waiting = new Set(more);
    while (waiting.size > 0) {
      const slowestFirst = [...stages.keys()].sort((a, b) => speeds[a]! - speeds[b]!);
      let found = false;
      for (const stage of slowestFirst) {
        const [taken] = this.bySpeed([...waiting], stage);
        if (taken === undefined || this.passMs(taken, stage) > slowest[stage]! * (1 + 1e-9)) continue;
        stages[stage]!.push(taken);
        speeds[stage]! += 1 / this.passMs(taken, stage);
        waiting.delete(taken);
        found = true;
        break;
      }
      if (!found) break;
    }
    return stages;
  }

  /** Those of these devices that have room for a stage, the fastest first. */
  private bySpeed(places: readonly number[], stage: number): number[] {
    const needed = this.heldBytes(stage);
    return places
      .filter((place) => (this.request.devices[place]!.memoryBytes ?? Number.POSITIVE_INFINITY) >= needed)
      .map((place) => ({ place, ms: this.passMs(place, stage) }))
      .sort((a, b) => a.ms - b.ms || a.place - b.place)
      .map(({ place }) => place);
  }

  /** Forward and backward pass of one micro-batch. */
  private passMs(place: number, stage: number): number {
    const { forwardMs, backwardMs } = this.request.profile.devices[this.request.devices[place]!.id]!;
    let ms = 1e-9;
    for (const { from, to } of this.present.stages[stage]!.ranges) {
      for (let i = from; i < to; i++) ms += forwardMs[i]! + backwardMs[i]!;
    }
    return ms;
  }

  /** With one micro-batch in flight. */
  private heldBytes(stage: number): number {
    let bytes = 0;
    for (const { from, to } of this.present.stages[stage]!.ranges) {
      for (const each of this.request.segments.slice(from, to)) {
        bytes += residentBytes(each) + each.stashBytes + this.ownCopies * changingBytes(each);
      }
    }
    return bytes;
  }

  private draft(members: readonly (readonly number[])[]): Draft {
    const { schedule, stages, codecs, localSteps } = this.present;
    const chunks = chunksOf(this.present);
    return {
      ...{ schedule, codecs, localSteps },
      stages: stages.map(({ sharing, recompute }, stage): DraftStage => {
        const own = members[stage]!;
        const shared = own.length === 1 ? null : (sharing ?? "data");
        return { sharing: shared, members: own, dealt: null, shares: null, recompute };
      }),
      cuts: [...chunks.map(({ from }) => from), chunks.at(-1)!.to],
      owners: chunks.map((chunk) => stages.findIndex(({ ranges }) => ranges.includes(chunk))),
    };
  }
}

function reasonsFor({ devices, segments }: PlanRequest, stages: readonly PlanStage[]): PlanDevice[] {
  const stageOf = new Map(
    stages.flatMap((stage) => stage.members.map(({ device }) => [device, stage] as const)),
  );
  return devices.map((device) => {
    const { id, name } = device;
    const stage = stageOf.get(id);
    if (!stage) return { id, name, used: false, reason: "left out: a step takes no longer without it" };
    return { id, name, used: true, reason: usedReason(device, stage, stages, segments.length) };
  });
}
