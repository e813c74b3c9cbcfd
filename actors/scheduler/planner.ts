/**
 * Choosing a plan: from measured profiles, by pure functions, so that the same input gives the same plan. Candidates come
 * from dynamic programming over groups of devices and runs of segments (`planner/search.ts`), ranked by a closed form; the
 * best of them are simulated, and bettered by small changes as long as the simulator says that it gains
 * (`planner/refine.ts`). What is chosen is thus what has been simulated to be best.
 */

import { partition } from "./partition.ts";
import type { Plan } from "./plan.ts";
import { PlanError } from "./plan-error.ts";
import { Candidates, strategyOf } from "./planner/candidates.ts";
import { withCopies } from "./planner/copies.ts";
import type { Draft, Outcome, Workshop } from "./planner/draft.ts";
import { finished, withMostCopies, workshopFor } from "./planner/finish.ts";
import { type CheckedOptions, checkOptions, type PlanRequest } from "./planner/options.ts";
import { reasonsOf } from "./planner/reasons.ts";
import { refine } from "./planner/refine.ts";
import { kindsOf } from "./planner/rows.ts";
import { unfit } from "./planner/unfit.ts";

export { adaptPlan } from "./planner/adapt.ts";
export type { PlanOptions, PlanRequest } from "./planner/options.ts";

/**
 * Events that are simulated to settle among candidates, among the other schedules of the best of them, and to better what is
 * best then. A million take about a second.
 */
const SETTLE_EVENTS = 60_000;
const REFINE_EVENTS = 80_000;
/** Candidates that can be carried out are settled until there are so many at least: of many devices each takes all those events. */
const LEAST_SETTLED = 8;
/** Candidates that are settled at most, and so many of the best of them, each of another grouping, bettered. */
const MOST_SETTLED = 120;
const MOST_REFINED = 40;
/** Of small cases, where a little is enough for one, it is enough for all of them; else for so many. */
const FULLY_REFINED = 8;

/**
 * A plan whose devices have room for the copies that are asked for, if there is one, else for as many as can be.
 * @throws PlanError in one line: an unknown or unavailable option, more devices than segments, too little memory.
 */
export function makePlan(request: PlanRequest): Plan {
  const checked = checkOptions(request);
  return withMostCopies(request, (copies, held) => {
    const workshop = workshopFor(request, checked, copies);
    const seen = { ...request, segments: withCopies(request.segments, held) };
    const chooser = new Chooser(seen, checked, workshop);
    const chosen = chooser.choose();
    return finished(request, checked, chosen, copies, chooser.reasons(chosen));
  });
}

class Chooser {
  private readonly request: PlanRequest;
  private readonly checked: CheckedOptions;
  private readonly workshop: Workshop;
  private readonly candidates: Candidates;
  private readonly outcomes: Outcome[] = [];

  constructor(request: PlanRequest, checked: CheckedOptions, workshop: Workshop) {
    this.request = request;
    this.checked = checked;
    this.workshop = workshop;
    this.candidates = new Candidates(request, checked);
  }

  choose(): Outcome {
    const { strategy } = this.checked;
    if (strategy === "single") this.settleAlone(this.request.devices.length);
    else if (strategy === "pipeline") this.settlePipelines();
    else {
      if (strategy === "auto") this.settleAlone(MOST_SETTLED);
      this.settleFound();
      // Where there is nothing to share, or nobody to share it with, there is one device.
      const dealt = strategy === "data" || strategy === "local";
      if (this.outcomes.length === 0 && (dealt || this.request.devices.length === 1)) {
        this.settleAlone(MOST_SETTLED);
      }
    }
    const best = [...this.outcomes].sort((a, b) => a.score - b.score);
    if (best.length === 0) throw unfit(this.request, this.checked);
    if (strategy !== "single") this.refineBest(best);
    const chosen = this.outcomes.reduce((a, b) => (b.score < a.score ? b : a));
    const { of, deadlineMs } = this.checked.objective;
    if (of === "energy" && chosen.plan.predictedStepMs > deadlineMs) {
      throw new PlanError(
        `no plan makes a step in ${deadlineMs} ms: the best found takes ${chosen.plan.predictedStepMs.toFixed(1)} ms`,
      );
    }
    return chosen;
  }

  /** Betters the best of each way to group the devices: what is near to it differs from what is near to another. */
  private refineBest(best: readonly Outcome[]): void {
    const groupings = new Map<string, Outcome>();
    for (const outcome of best) {
      const { stages, owners } = outcome.draft;
      const key = JSON.stringify([
        stages.map(({ members, sharing }) => [[...members].sort(), sharing]),
        owners,
      ]);
      if (!groupings.has(key)) groupings.set(key, outcome);
    }
    const end = this.workshop.events + REFINE_EVENTS;
    let left = MOST_REFINED;
    for (const outcome of groupings.values()) {
      const rest = end - this.workshop.events;
      if (left-- === 0 || rest <= 0) break;
      const budget = Math.min(rest, REFINE_EVENTS / Math.min(FULLY_REFINED, groupings.size));
      const allows = (draft: Draft) => this.allows(draft);
      const { sharings } = this.candidates;
      this.outcomes.push(refine(this.workshop, outcome, { allows, sharings, budget }));
    }
  }

  reasons(chosen: Outcome) {
    const { workshop, outcomes } = this;
    if (this.checked.strategy === "single") return this.singleReasons(chosen);
    const kinds = kindsOf(this.candidates.tables, this.candidates.whole);
    const allows = (draft: Draft) => this.allows(draft);
    return reasonsOf({ workshop, chosen, outcomes, allows, kinds });
  }

  private singleReasons(chosen: Outcome) {
    const own = chosen.plan.stages[0]!.members[0]!;
    const { length } = this.request.segments;
    const fits = new Set(this.outcomes.map(({ plan }) => plan.stages[0]!.members[0]!.device));
    const what = this.checked.objective.of === "time" ? "the fastest" : "the one that takes least energy";
    return this.request.devices.map(({ id, name }) => {
      const used = id === own.device;
      const reason = used
        ? `holds ${length} of ${length} segments`
        : fits.has(id)
          ? `left out: the strategy is single and ${own.deviceName} is ${what}`
          : "left out: the model does not fit its memory";
      return { id, name, used, reason };
    });
  }

  /** Whether a draft is of the strategy that was asked for. */
  private allows(draft: Draft): boolean {
    const { strategy } = this.checked;
    if (strategy === "auto") return !draft.stages.some(({ sharing }) => sharing === "local");
    if (strategy === "hybrid") return strategyOf(draft) !== "local";
    if (strategy !== "pipeline") return strategyOf(draft) === strategy;
    const order = draft.stages.flatMap(({ members }) => members);
    return order.length === draft.stages.length && order.every((device, i) => device === i);
  }

  private settle(draft: Draft): void {
    const outcome = this.workshop.outcome(draft);
    if (!(outcome instanceof PlanError)) this.outcomes.push(outcome);
  }

  private settleAlone(most: number): void {
    for (const draft of this.candidates.alone().slice(0, most)) this.settle(draft);
  }

  /** All that was found is settled in one schedule, and the best of that in the others. */
  private settleFound(): void {
    const found = this.candidates.found().filter(({ draft }) => this.allows(draft));
    const known = new Map<string, Draft>();
    const first = this.outcomes.length;
    let end = this.workshop.events + SETTLE_EVENTS;
    for (const draft of bestOfKindsFirst(found.map((each) => each.draft))) {
      const key = JSON.stringify(draft);
      if (known.has(key)) continue;
      const isEnough = this.outcomes.length - first >= LEAST_SETTLED && this.workshop.events >= end;
      if (known.size === MOST_SETTLED || isEnough) break;
      known.set(key, draft);
      this.settle(draft);
    }
    const settled = this.outcomes.slice(first).sort((a, b) => a.score - b.score);
    // What has no room in one schedule hardly has any in another.
    const best = settled.length > 0 ? settled.map(({ draft }) => draft) : [...known.values()];
    end = this.workshop.events + SETTLE_EVENTS;
    for (const [rank, draft] of best.entries()) {
      if (rank > 0 && this.workshop.events >= end) break;
      for (const variant of this.candidates.variants(draft)) this.settle(variant);
    }
  }

  /** All devices in the order given, one to a stage. */
  private settlePipelines(): void {
    const { segments, devices, profile, options } = this.request;
    const { microBatches, stashBytes = 0 } = options;
    const again = options.recompute === "where-needed" ? [false, true] : [options.recompute];
    let refused: unknown;
    for (const recompute of again) {
      for (const schedule of this.checked.schedules) {
        try {
          const even = { segments, devices, profile, schedule, microBatches, recompute, stashBytes };
          const { ranges } = partition(even);
          this.settlePipeline(
            ranges.map(({ from }) => from),
            recompute,
          );
        } catch (error) {
          if (!(error instanceof PlanError)) throw error;
          refused ??= error;
        }
      }
      if (this.outcomes.length > 0) return;
    }
    if (devices.length > segments.length) throw refused;
  }

  private settlePipeline(starts: readonly number[], recompute: boolean): void {
    const stages = starts.map((_, device) => ({
      ...{ sharing: null, members: [device], dealt: null, shares: null },
      recompute: recompute && device < starts.length - 1,
    }));
    const draft: Draft = {
      ...{ schedule: this.checked.schedules[0]!, stages, localSteps: 1 },
      cuts: [...starts, this.request.segments.length],
      owners: stages.map((_, stage) => stage),
      codecs: { activations: null, gradients: null },
    };
    for (const variant of this.candidates.variants(draft)) this.settle(variant);
  }
}

/**
 * The best of each kind, and then all in their order: the closed form is wrong about one kind beside another rather than
 * within one.
 */
function bestOfKindsFirst(drafts: readonly Draft[]): Draft[] {
  const kinds = new Map<string, Draft>();
  for (const draft of drafts) {
    const kind = strategyOf(draft);
    if (!kinds.has(kind)) kinds.set(kind, draft);
  }
  return [...kinds.values(), ...drafts];
}
