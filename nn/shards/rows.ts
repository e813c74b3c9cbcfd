/** Rows of the residual stream, which are tokens: the labels of those axes along which the stream is divided. */

import type { Shape } from "../../protocols/tensor.ts";
import { type Layout, part, WHOLE } from "./layout.ts";
import type { Labels, Units } from "./units.ts";

export class Rows {
  private readonly units: Units;
  private readonly ranks: number;
  private readonly choice: number;
  /** By how many rows there are. */
  private readonly known = new Map<number, Labels>();
  /** Between how many axes there was a choice, at the most. */
  ways = 1;

  /** @param choice which of the axes that can be those of rows is; null where the stream is not divided. */
  constructor(units: Units, ranks: number, choice: number | null) {
    this.units = units;
    this.ranks = ranks;
    this.choice = choice ?? -1;
  }

  /** How a value of the stream is divided: whole, where it has no rows or too few. */
  layout(shape: Shape): Layout {
    const axes = this.choice === -1 ? [] : rowAxes(shape, this.ranks);
    const axis = axes[Math.min(this.choice, axes.length - 1)];
    if (axis === undefined) return WHOLE;
    this.ways = Math.max(this.ways, axes.length);
    const length = shape[axis]!;
    const labels = this.known.get(length) ?? this.units.fresh(length);
    this.known.set(length, labels);
    return part(axis, labels);
  }

  /** All labels that began as rows. */
  get labels(): Labels[] {
    return [...this.known.values()];
  }

  /** Whether labels have met those of rows. */
  has(labels: Labels): boolean {
    const family = this.units.family(labels);
    return this.labels.some((rows) => this.units.family(rows) === family);
  }

  /** Whether labels were of rows before whatever they have met since. */
  began({ family }: Labels): boolean {
    return this.labels.some((rows) => rows.family === family);
  }
}

/** The axes of a residual stream along which its rows can lie: of two or three axes those that are long enough. */
function rowAxes(shape: Shape, ranks: number): number[] {
  if (shape.length !== 2 && shape.length !== 3) return [];
  return shape.slice(0, -1).flatMap((size, axis) => (size >= ranks ? [axis] : []));
}
