/**
 * Where copies are of what a run's workers hold, and as of which step: the books that recovery goes by. Pure: it is told
 * what was copied and which devices are lost, and says from which step a run can go on and who has what then.
 *
 * A worker holds values whole or, where members of a stage have parts of the weights, the part of its rank. A step is a
 * *recovery point* when living devices have, together, every value of the model as it left them.
 */

import type { Cut } from "../../nn/shards/layout.ts";
import { turnOf } from "./turns.ts";

/** What a worker holds of what training changes. */
export interface Holding {
  /** The generation that it was started in, and its number: a worker that goes on in further ones keeps its name. */
  readonly worker: string;
  readonly names: readonly string[];
  /** How those are cut that it has a part of. */
  readonly cuts: Readonly<Record<string, Cut>>;
  readonly rank: number;
  /** Members of its stage. */
  readonly ranks: number;
  /** Members train on their own: what they hold of one name is not the same. */
  readonly apart: boolean;
}

/** A copy of what a worker holds. */
export interface Copy<S> {
  readonly holding: Holding;
  readonly step: number;
  /** Device id. */
  readonly device: string;
  /** Whom to ask for it. */
  readonly source: S;
}

export class Ledger<S> {
  private copies: Copy<S>[] = [];

  /** Somebody has a complete copy. */
  add(copy: Copy<S>): void {
    const { holding, step, source } = copy;
    const isKnown = this.copies.some(
      (known) => known.source === source && known.step === step && known.holding.worker === holding.worker,
    );
    if (!isKnown) this.copies.push(copy);
  }

  /** A device is gone, with all that it held. */
  lose(device: string): void {
    this.copies = this.copies.filter((copy) => copy.device !== device);
  }

  /** Somebody's copies are given up. */
  drop(source: S): void {
    this.copies = this.copies.filter((copy) => copy.source !== source);
  }

  /** Nobody goes back behind this step any more. */
  forgetBefore(step: number): void {
    this.copies = this.copies.filter((copy) => copy.step >= step);
  }

  /** The run goes on behind this step: those behind it are made again. */
  forgetAfter(step: number): void {
    this.copies = this.copies.filter((copy) => copy.step <= step);
  }

  /** Gives up what is known of workers that these are not among. */
  keepWorkers(isKept: (worker: string) => boolean): void {
    this.copies = this.copies.filter(({ holding }) => isKept(holding.worker));
  }

  /** Those that somebody has copies of. */
  steps(): readonly number[] {
    return [...new Set(this.copies.map(({ step }) => step))];
  }

  /** The latest step of which living devices have all these names whole; null where there is none. */
  point(names: readonly string[]): number | null {
    const steps = this.steps().toSorted((a, b) => b - a);
    return steps.find((step) => names.every((name) => this.isWhole(step, name))) ?? null;
  }

  /**
   * A copy of a value as a worker is to hold it: whole, or the very part that is its own; null where there is none. Of
   * several, one that is `near`, or else everybody who asks is told of another.
   */
  exact(step: number, name: string, { cuts, rank, apart }: Holding, near: string): Copy<S> | null {
    const cut = JSON.stringify(cuts[name]);
    const found = this.copies.filter(({ step: own, holding }) => {
      if (own !== step || !holding.names.includes(name)) return false;
      if (JSON.stringify(holding.cuts[name]) !== cut || holding.apart !== apart) return false;
      return (cut === undefined && !apart) || holding.rank === rank;
    });
    return found.find(({ device }) => device === near) ?? found[turnOf(near, found.length)] ?? null;
  }

  /** Devices that have a copy of what a worker holds, as of a step. */
  devicesWith(step: number, worker: string): readonly string[] {
    const found = this.copies.filter((copy) => copy.step === step && copy.holding.worker === worker);
    return [...new Set(found.map(({ device }) => device))];
  }

  /** Copies that have a value, as of a step: one for each part of it, those on `near` first; none where parts lack. */
  partsOf(step: number, name: string, near?: string): readonly Copy<S>[] {
    const found = this.copies
      .filter((copy) => copy.step === step && copy.holding.names.includes(name))
      .sort((a, b) => Number(b.device === near) - Number(a.device === near));
    const whole = found.find(({ holding }) => !holding.cuts[name] && !holding.apart);
    if (whole) return [whole];
    // Copies of one step may be of stages that were cut in different ways.
    for (const alike of Map.groupBy(found, ({ holding }) => wayOf(name, holding)).values()) {
      const parts: Copy<S>[] = [];
      for (const copy of alike) parts[copy.holding.rank] ??= copy;
      const complete = Array.from({ length: alike[0]!.holding.ranks }, (_, rank) => parts[rank]);
      if (complete.every(Boolean)) return parts;
    }
    return [];
  }

  /** Whether living devices have the value as this step left it. */
  private isWhole(step: number, name: string): boolean {
    return this.partsOf(step, name).length > 0;
  }
}

/** In which way members of a stage have a value together. */
function wayOf(name: string, { cuts, ranks, apart }: Holding): string {
  return JSON.stringify([cuts[name], ranks, apart]);
}
