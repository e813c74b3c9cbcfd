/**
 * The order in which lanes of a pipeline do their work: list scheduling with unit times.
 *
 * A schedule says in which order a lane goes forward, in which backward, and how far it may run ahead; how the two are
 * merged is found by letting the pipeline run, each lane taking the next thing that it may and can do. Whatever comes out
 * has been carried out once, so it cannot deadlock, however micro-batches are dealt. For a plain chain it gives the
 * published programs.
 *
 * Units of time: 1 for a forward pass, a backward pass in B, and one in W, of a lane that takes every micro-batch; one that
 * takes a quarter of them is four times as slow, as planning would have it.
 */

import { EventQueue } from "../simulate/queue.ts";
import type { Lane, Layout, Run } from "./layout.ts";

/** One pass of a micro-batch through a run. */
export interface Unit {
  /** `input` and `weight` are B and W of a backward pass in two; `both` is forward and backward in one go. */
  readonly pass: "forward" | "backward" | "both" | "input" | "weight";
  readonly run: Run;
  readonly microBatch: number;
}

/** What makes a schedule. */
export interface Policy {
  /** A run is gone through by so many micro-batches before the next run of the lane has its turn. */
  readonly group: number;
  /** So many forward passes a lane may be ahead of its backward passes. */
  limit(lane: Lane): number;
  /** No backward pass before the last forward pass. */
  readonly flush: boolean;
  /** So many backward passes W of a lane may be behind B; null where they are one. */
  lag(lane: Lane): number | null;
}

/** What each lane does, in order. */
export function orderOf(layout: Layout, policy: Policy): readonly (readonly Unit[])[] {
  const lanes = layout.lanes.map((lane) => new LaneOrder(lane, policy));
  const ready = new Ready(layout);
  /** When lanes are done with what they do, which is one thing at a time. */
  const ends = new EventQueue(lanes.length);
  const doing = new Array<Unit>(lanes.length);
  const start = (index: number, now: number) => {
    const lane = lanes[index]!;
    const unit = lane.busy ? undefined : lane.next(ready);
    if (!unit) return;
    lane.take(unit);
    doing[index] = unit;
    ends.push(now + lane.duration(unit), index);
  };
  let now = 0;
  /** Lanes that may go on. */
  const touched: number[] = [];
  for (const index of lanes.keys()) start(index, now);
  for (;;) {
    if (ends.size === 0) {
      // Everybody waits for what somebody may not do yet: whoever could go on, does.
      const held = lanes.findIndex((lane) => lane.held(ready));
      if (held < 0) break;
      lanes[held]!.limit++;
      start(held, now);
      continue;
    }
    now = ends.firstMs;
    touched.length = 0;
    while (ends.size > 0 && ends.firstMs === now) {
      const lane = ends.firstCode;
      ends.pop();
      lanes[lane]!.busy = false;
      touched.push(lane);
      const other = ready.done(doing[lane]!);
      if (other >= 0) touched.push(other);
    }
    // In the order of the lanes; a lane that is there twice has started by the second time.
    if (touched.length > 1) touched.sort((a, b) => a - b);
    for (const lane of touched) start(lane, now);
  }
  return lanes.map(({ units }) => units);
}

/** Which forward and backward passes have all they need. */
class Ready {
  private readonly layout: Layout;
  /** By run and micro-batch: 1 gone forward, 2 backward as well. */
  private readonly states: readonly Uint8Array[];

  constructor(layout: Layout) {
    this.layout = layout;
    const count = layout.lanes.reduce(
      (most, { microBatches }) => Math.max(most, (microBatches.at(-1) ?? -1) + 1),
      0,
    );
    this.states = layout.runs.map(() => new Uint8Array(count));
  }

  forward({ run, microBatch }: Unit): boolean {
    return run.index === 0 || this.states[run.index - 1]![microBatch]! >= 1;
  }

  backward({ run, microBatch }: Unit): boolean {
    if (this.states[run.index]![microBatch] !== 1) return false;
    return run.last || this.states[run.index + 1]![microBatch] === 2;
  }

  /** Notes that a unit is done; the lane that may go on for it besides its own, -1 for none. */
  done({ pass, run, microBatch }: Unit): number {
    if (pass === "weight") return -1;
    this.states[run.index]![microBatch] = pass === "forward" ? 1 : 2;
    const { runs, laneOf } = this.layout;
    const other = runs[pass === "forward" ? run.index + 1 : run.index - 1];
    return other ? laneOf(other, microBatch) : -1;
  }
}

const UNITS = { forward: 1, backward: 2, both: 3, input: 1, weight: 1 } as const;

class LaneOrder {
  readonly units: Unit[] = [];
  busy = false;
  limit: number;
  private readonly lane: Lane;
  private readonly flush: boolean;
  /** Null where B and W are one. */
  private readonly lag: number | null;
  private readonly forwards: readonly Unit[];
  private readonly backwards: readonly Unit[];
  private forwarded = 0;
  private backwarded = 0;
  private weighted = 0;
  /** Forward passes that a backward pass will follow. */
  private ahead = 0;

  constructor(lane: Lane, { group, limit, lag, flush }: Policy) {
    this.lane = lane;
    this.limit = limit(lane);
    this.flush = flush;
    this.lag = lag(lane);
    const { runs, microBatches } = lane;
    const split = this.lag !== null;
    const groups = [...Map.groupBy(microBatches, (m) => Math.floor(m / group)).values()];
    const through = (order: readonly Run[], passOf: (run: Run) => Unit["pass"]) =>
      groups.flatMap((ms) =>
        order.flatMap((run) => ms.map((microBatch) => ({ pass: passOf(run), run, microBatch }))),
      );
    this.forwards = through(runs, ({ last }) => (last && !split ? "both" : "forward"));
    const backward = runs.filter(({ trained, last }) => trained && (split || !last));
    this.backwards = through(backward.toReversed(), () => (split ? "input" : "backward"));
  }

  /** What to do now; undefined when there is nothing. */
  next(ready: Ready): Unit | undefined {
    const input = this.backwards[this.backwarded];
    const behind = this.lag === null ? 0 : this.backwarded - this.weighted;
    const weight = behind > 0 ? this.backwards[this.weighted]! : undefined;
    if (weight && behind > this.lag!) return { ...weight, pass: "weight" };
    const forward = this.forwards[this.forwarded];
    if (forward && this.allowed(forward) && ready.forward(forward)) return forward;
    if (input && !(this.flush && forward) && ready.backward(input)) return input;
    return weight && { ...weight, pass: "weight" };
  }

  /** Whether it could go forward and may not. */
  held(ready: Ready): boolean {
    const forward = this.forwards[this.forwarded];
    return forward !== undefined && !this.allowed(forward) && ready.forward(forward);
  }

  take(unit: Unit): void {
    this.units.push(unit);
    this.busy = true;
    if (unit.pass === "forward" || unit.pass === "both") {
      this.forwarded++;
      if (unit.pass === "forward" && unit.run.trained) this.ahead++;
    } else if (unit.pass === "weight") this.weighted++;
    else {
      this.backwarded++;
      this.ahead--;
    }
  }

  duration({ pass }: Unit): number {
    return (UNITS[pass] * this.lane.all) / this.lane.microBatches.length;
  }

  private allowed({ run }: Unit): boolean {
    return !run.trained || this.ahead < this.limit;
  }
}
