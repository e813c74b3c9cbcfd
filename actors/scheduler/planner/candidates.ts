/**
 * The drafts among which a plan is chosen: each device alone, what the search finds in several rows of the devices, the
 * same cut into chunks or in other schedules, and with codecs where they are allowed.
 */

import { SHARD_KINDS } from "../../../nn/shards/plan.ts";
import { OTHERS } from "../dealt.ts";
import type { Sharing, Strategy } from "../plan.ts";
import { codecRatio } from "../plan-cost.ts";
import { type Draft, type DraftStage, inFlightOf, lanesOf } from "./draft.ts";
import { Groups } from "./group.ts";
import type { Objective } from "./objective.ts";
import type { CheckedOptions, PlanRequest } from "./options.ts";
import { blocksOf, cutsOf, rowsOf } from "./rows.ts";
import { type Found, type SearchSpace, search } from "./search.ts";
import { Tables } from "./tables.ts";

/** A search looks at no more than so many runs of devices with runs of segments, over all rows. */
const MOST_RUNS = 10_000;
/** Alone, and in one row. */
const MOST_BLOCKS = 18;
const MOST_CUTS = 26;
const MOST_STAGES = 16;
/** Pipelines that a state of the search keeps: more where there is little to search. */
const WIDTH = { few: 8, many: 3 } as const;
const FEW_RUNS = 4_000;

/** The strategy of a draft, by what it is. */
export function strategyOf({ stages }: Pick<Draft, "stages">): Strategy {
  if (stages.length === 1) return stages[0]!.sharing ?? "single";
  return stages.every(({ members }) => members.length === 1) ? "pipeline" : "hybrid";
}

/** How members of a stage may share its work under a strategy. */
function sharingsOf({ strategy, schedules }: CheckedOptions): readonly Sharing[] {
  switch (strategy) {
    case "auto":
    case "hybrid":
      // It parts backward passes, which members of a shard make in one.
      return schedules.every((name) => name === "zero-bubble") ? ["data"] : ["data", ...SHARD_KINDS];
    case "single":
    case "pipeline":
      return [];
    default:
      return [strategy];
  }
}

export class Candidates {
  readonly tables: Tables;
  /** The time of the whole model on each device. */
  readonly whole: readonly number[];
  private readonly request: PlanRequest;
  private readonly checked: CheckedOptions;

  constructor(request: PlanRequest, checked: CheckedOptions) {
    const { segments, devices, profile, options } = request;
    this.request = request;
    this.checked = checked;
    this.tables = new Tables(segments, devices, profile, options.stashBytes ?? 0);
    this.whole = devices.map((_, i) => this.tables.passMs(i, 0, segments.length, false));
  }

  /** Every device alone, the fastest first. */
  alone(): Draft[] {
    const { segments, devices } = this.request;
    const order = devices.map((_, i) => i).sort((a, b) => this.whole[a]! - this.whole[b]! || a - b);
    return order.map((device) => ({
      schedule: this.checked.schedules[0]!,
      stages: [{ sharing: null, members: [device], dealt: null, shares: null, recompute: false }],
      ...{ cuts: [0, segments.length], owners: [0], localSteps: 1 },
      codecs: { activations: null, gradients: null },
    }));
  }

  /** What the search finds, the best first; nothing where no draft of the strategy fits. */
  found(): Found[] {
    const { strategy, objective, activationCodecs, gradientCodecs, schedules } = this.checked;
    const { segments, devices, options } = this.request;
    const whole = strategy === "auto" || strategy === "hybrid" || strategy === "pipeline";
    const rows = rowsOf(this.tables, this.whole);
    const { blocks, cuts, width } = sizesOf(rows.length, devices.length, segments.length);
    const places = cutsOf(segments, this.meanWork(), cuts);
    // What is best for time is worth a look where energy is what counts, and where it must be in time.
    const time: Objective = { of: "time", deadlineMs: Number.POSITIVE_INFINITY };
    const objectives = objective.of === "time" ? [time] : [objective, time];
    // GPipe holds more than the others, which are alike to the closed form.
    const schedule = schedules.find((name) => name !== "gpipe") ?? "gpipe";
    const localSteps = strategy === "local" ? (options.localSteps ?? 1) : 1;
    const found: Found[] = [];
    for (const activations of activationCodecs) {
      for (const gradients of gradientCodecs) {
        const groups = new Groups(
          this.tables,
          options.microBatches,
          inFlightOf(schedule, options.microBatches),
          {
            sharings: this.sharings,
            recompute: options.recompute,
            gradientRatio: codecRatio(gradients),
            encodesSums: gradients !== null,
            localSteps,
          },
        );
        for (const row of rows) {
          const crossings: SearchSpace["crossings"] = new Map();
          for (const each of objectives) {
            const own = search({
              ...{ tables: this.tables, groups, objective: each, schedule, localSteps, width },
              ...{ microBatches: options.microBatches, row: blocksOf(row, blocks), cuts: places },
              mostStages: whole ? MOST_STAGES : 1,
              leastMembers: whole ? 1 : Math.min(2, devices.length),
              mostMembers: strategy === "pipeline" ? 1 : Math.max(options.microBatches, MOST_BLOCKS),
              codecs: { activations, gradients },
              activationRatio: codecRatio(activations),
              crossings,
            });
            found.push(...own);
          }
        }
      }
    }
    return found.sort((a, b) => a.score - b.score);
  }

  /** The same work in the other schedules that are to choose among, and cut into chunks where that may help. */
  *variants(draft: Draft): Generator<Draft> {
    const { schedules } = this.checked;
    for (const schedule of schedules) {
      if (schedule === "interleaved" && draft.stages.length > 1) {
        for (const chunks of [2, 3]) {
          const chunked = this.chunked({ ...draft, schedule }, chunks);
          if (chunked) yield chunked;
        }
      } else if (draft.stages.length > 1 || schedule === schedules[0]) yield { ...draft, schedule };
    }
    const [stage] = draft.stages;
    // Gradients of what has been gone through already travel while the rest is computed. But where a run keeps copies, it would
    // begin a step again with each loss: what one of many members has lost is dealt to the others in one chunk (`dealt.ts`).
    const { copies = 0 } = this.request.options;
    const isOfFew = copies === 0 || stage!.members.length <= OTHERS;
    if (draft.stages.length === 1 && stage!.members.length > 1 && lanesOf(stage!) > 1 && isOfFew) {
      for (const chunks of [2, 4]) {
        const chunked = this.chunked(draft, chunks);
        if (chunked) yield chunked;
      }
    }
  }

  /** So many chunks for each stage, dealt round and round, with the work of the stages in proportion to what it was. */
  private chunked(draft: Draft, chunks: number): Draft | null {
    const { stages } = draft;
    const count = stages.length * chunks;
    const total = this.request.segments.length;
    if (count > total) return null;
    const work = this.meanWork();
    const sum = (from: number, to: number) => work.slice(from, to).reduce((a, b) => a + b, 0);
    const shares = stages.map((_, stage) => sum(draft.cuts[stage]!, draft.cuts[stage + 1]!));
    const owners = Array.from({ length: count }, (_, position) => position % stages.length);
    const cuts = [0];
    let due = 0;
    let done = 0;
    for (let position = 0; position < count - 1; position++) {
      due += shares[owners[position]!]! / chunks;
      let to = cuts[position]! + 1;
      done += work[to - 1]!;
      while (to < total - (count - 1 - position) && Math.abs(done + work[to]! - due) < Math.abs(done - due)) {
        done += work[to++]!;
      }
      cuts.push(to);
    }
    const fresh = stages.map((stage): DraftStage => ({ ...stage, dealt: null, shares: null }));
    return { ...draft, stages: fresh, cuts: [...cuts, total], owners };
  }

  /** Of each segment, over all devices by their speed. */
  private meanWork(): number[] {
    const { segments, devices } = this.request;
    const some = devices.slice(0, 16).map((_, i) => i);
    return segments.map((_, i) =>
      some.reduce((sum, d) => sum + this.tables.passMs(d, i, i + 1, false) / this.whole[d]!, 0),
    );
  }

  /** How members of a stage may share its work: as the strategy has it, and as some segment allows it. */
  get sharings(): readonly Sharing[] {
    return sharingsOf(this.checked).filter(
      (sharing) =>
        sharing === "data" ||
        sharing === "local" ||
        this.request.segments.some(({ sharded }) => sharded?.[sharing]),
    );
  }
}

/** How finely a row and a model can be looked at, for so many rows. */
function sizesOf(rows: number, devices: number, segments: number) {
  let blocks = Math.min(devices, MOST_BLOCKS);
  let cuts = Math.min(segments + 1, MOST_CUTS);
  const runs = () => (rows * blocks * (blocks + 1) * cuts * (cuts - 1)) / 4;
  while (runs() > MOST_RUNS && (blocks > 4 || cuts > 9)) {
    if (blocks / MOST_BLOCKS > cuts / MOST_CUTS && blocks > 4) blocks--;
    else if (cuts > 9) cuts--;
    else blocks--;
  }
  return { blocks, cuts, width: runs() <= FEW_RUNS ? WIDTH.few : WIDTH.many };
}
