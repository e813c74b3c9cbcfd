/**
 * A replica: copies of other devices' stages, in this device's memory, so that nothing is lost with one of them. It is
 * given them in pieces while the stages go on, or the gradients to make them of, and gives them to whoever takes a lost one's
 * place.
 */

import type { Engine } from "../../nn/engine/engine.ts";
import type { Followed } from "../../nn/executor/follower.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import { Actor, type Ref } from "../../runtime/index.ts";
import type { KeptCopies } from "../journal/kept.ts";
import type { Stage } from "../stage.ts";
import type { Copies } from "./copies.ts";
import { KeptWorker } from "./kept-worker.ts";
import type { Holding } from "./ledger.ts";
import type { Slice } from "./pieces.ts";

/** What holds copies: a replica of what others hold, a stage of what it holds itself. */
export interface Source {
  /** Those of `names` that it has a copy of, as this step left them. */
  recall(worker: string, step: number, names: readonly string[]): Promise<Record<string, Tensor>>;
}

/** Whom to ask for copies, and for which. */
export interface Fetch {
  readonly source: Ref<Stage> | Ref<Replica>;
  readonly worker: string;
  readonly names: readonly string[];
}

export type Replicas = readonly Ref<Replica>[];

export class Replica extends Actor {
  static override readonly reentrant: readonly string[] = [
    ...["put", "complete", "kept", "recall"],
    ...["follows", "putGradients", "advance", "checksum"],
  ];

  readonly #engine: Engine;
  readonly #workers = new Map<string, KeptWorker>();

  /** @param engine that updates are made on; copies are in its memory. */
  constructor(engine: Engine) {
    super();
    this.#engine = engine;
  }

  override onStop(): void {
    for (const worker of this.#workers.keys()) this.#forget(worker);
  }

  /**
   * Adds to the copy of what a worker holds. @param before bytes of it that came before these.
   * @returns false where those are not here any more. @throws EngineError where there is no memory for it.
   */
  put(worker: string, step: number, piece: readonly Slice[], before: number): Promise<boolean> {
    return this.#known(worker).put(step, piece, before);
  }

  /** No more comes of what a worker held after a step. @returns whether all of its bytes are here, so many. */
  complete(holding: Holding, step: number, bytes: number): boolean {
    return this.#known(holding.worker).has(holding, step, bytes);
  }

  /**
   * Whether it makes copies of what a worker holds by itself, by the worker's gradients, from that of a step on.
   * @param recipe of its updates, unless that was told before. @throws EngineError when the engine refuses a graph of those.
   */
  async follows(worker: string, from: number, recipe: readonly Followed[] | null): Promise<boolean> {
    return (await this.#workers.get(worker)?.follows(from, recipe)) ?? false;
  }

  /** Adds to the gradients that a worker's next update goes by. */
  putGradients(worker: string, piece: readonly Slice[]): Promise<void> {
    return this.#of(worker).putGradients(piece);
  }

  /**
   * Makes a worker's update of a step, on the way from the copy that is here of one step to that of another.
   * @param squareSums of all parameters of the model.
   * @throws RangeError where that copy is not here.
   */
  advance(worker: string, from: number, to: number, step: number, squareSums: Tensor): Promise<void> {
    return this.#of(worker, from).advance(from, to, step, squareSums);
  }

  /** Of the copy of a step, complete or not. */
  checksum(worker: string, step: number): number {
    return this.#of(worker, step).checksum(step);
  }

  /** Complete copies that are here: for whoever has not put them here. */
  kept(): readonly KeptCopies[] {
    return [...this.#workers.values()].flatMap((worker) => worker.kept() ?? []);
  }

  /**
   * Those of `names` that there are; they are borrowed until they have been sent.
   * @throws RangeError where there is no copy of that step.
   */
  recall(worker: string, step: number, names: readonly string[]): Record<string, Tensor> {
    return recalled(this.#workers.get(worker)?.copies, worker, step, names);
  }

  /** From here on nobody goes back behind this step, and these workers alone are of use. */
  keep(step: number, workers: readonly string[]): void {
    for (const [worker, kept] of this.#workers) {
      // Of a worker that stays, copies may go elsewhere from here on.
      if (!workers.includes(worker) || !kept.keep(step)) this.#forget(worker);
    }
  }

  #forget(worker: string): void {
    this.#workers.get(worker)?.release();
    this.#workers.delete(worker);
  }

  #known(worker: string): KeptWorker {
    const known = this.#workers.get(worker) ?? new KeptWorker(this.#engine);
    this.#workers.set(worker, known);
    return known;
  }

  #of(worker: string, step?: number): KeptWorker {
    const kept = this.#workers.get(worker);
    const which = step === undefined ? "" : ` after step ${step + 1}`;
    if (!kept) throw new RangeError(`there is no copy of worker ${worker}${which}`);
    return kept;
  }
}

/** @throws RangeError where there is no copy of that step. */
export function recalled(
  copies: Pick<Copies, "at"> | undefined,
  worker: string,
  step: number,
  names: readonly string[],
): Record<string, Tensor> {
  const copy = copyOf(copies, worker, step);
  return Object.fromEntries(names.flatMap((name) => (copy.has(name) ? [[name, copy.get(name)!]] : [])));
}

export function copyOf(
  copies: Pick<Copies, "at"> | undefined,
  worker: string,
  step: number,
): ReadonlyMap<string, Tensor> {
  const copy = copies?.at(step);
  if (!copy) throw new RangeError(`there is no copy of worker ${worker} after step ${step + 1}`);
  return copy;
}
