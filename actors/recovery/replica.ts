/**
 * A replica: copies of other devices' stages, in this device's memory, so that nothing is lost with one of them. It is
 * given them in pieces while the stages go on, and gives them to whoever takes a lost one's place.
 */

import type { Tensor } from "../../protocols/tensor.ts";
import { Actor, type Clock, type Ref } from "../../runtime/index.ts";
import type { KeptCopies } from "../journal/kept.ts";
import type { Stage } from "../stage.ts";
import { Copies } from "./copies.ts";
import { Courtesy } from "./courtesy.ts";
import type { Holding } from "./ledger.ts";
import { Cutter, type Slice } from "./pieces.ts";

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

export class Replica extends Actor {
  static override readonly reentrant: readonly string[] = ["put", "complete", "kept", "recall"];

  /** By worker. */
  readonly #copies = new Map<string, Copies>();
  readonly #complete = new Map<string, KeptCopies>();

  /** Adds to the copy of what a worker holds. */
  put(worker: string, step: number, piece: readonly Slice[]): void {
    let copies = this.#copies.get(worker);
    if (!copies) {
      copies = new Copies();
      this.#copies.set(worker, copies);
    }
    copies.write(step, piece);
    // A step that is made again is copied again.
    const complete = this.#complete.get(worker);
    if (!complete?.steps.includes(step)) return;
    this.#complete.set(worker, { ...complete, steps: complete.steps.filter((own) => own !== step) });
  }

  /** All of what a worker held after a step is here. */
  complete(holding: Holding, step: number): void {
    const steps = this.#complete.get(holding.worker)?.steps ?? [];
    this.#complete.set(holding.worker, { holding, steps: [...steps, step] });
  }

  /** Complete copies that are here: for whoever has not put them here. */
  kept(): readonly KeptCopies[] {
    return [...this.#complete.values()];
  }

  /**
   * Those of `names` that there are; they are borrowed until they have been sent.
   * @throws RangeError where there is no copy of that step.
   */
  recall(worker: string, step: number, names: readonly string[]): Record<string, Tensor> {
    return recalled(this.#copies.get(worker), worker, step, names);
  }

  /** From here on nobody goes back behind this step, and these workers alone are of use. */
  keep(step: number, workers: readonly string[]): void {
    for (const [worker, copies] of this.#copies) {
      copies.forgetBefore(step);
      // Of a worker that stays, copies may go elsewhere from here on.
      if (!workers.includes(worker) || copies.ofSteps().length === 0) this.#copies.delete(worker);
    }
    for (const [worker, { holding, steps }] of this.#complete) {
      if (!workers.includes(worker)) this.#complete.delete(worker);
      else this.#complete.set(worker, { holding, steps: steps.filter((own) => own >= step) });
    }
  }
}

/**
 * Gives replicas a copy of what a worker held after a step, piece by piece, making way for whatever else goes there.
 * @param isOver whether it is not wanted any more. @returns bytes that each was given.
 * @throws RangeError where there is no copy of that step, or it is over.
 */
export async function give(
  copies: Copies,
  holding: Holding,
  step: number,
  to: readonly Ref<Replica>[],
  isOver: () => boolean,
  clock: Clock,
): Promise<number> {
  const { worker } = holding;
  const requireWanted = () => {
    if (isOver()) throw new RangeError(`the copy of worker ${worker} after step ${step + 1} is given up`);
  };
  const cutter = new Cutter(copyOf(copies, worker, step));
  const courtesy = new Courtesy();
  let given = 0;
  for (;;) {
    requireWanted();
    const piece = cutter.next(courtesy.bytes);
    if (!piece) break;
    const bytes = piece.reduce((sum, slice) => sum + slice.bytes.byteLength, 0);
    const began = clock.now();
    await Promise.all(to.map((replica) => replica.ask.put(worker, step, piece)));
    given += bytes;
    const restMs = courtesy.took(bytes, clock.now() - began);
    if (restMs > 0) await clock.sleep(restMs);
  }
  await Promise.all(to.map((replica) => replica.ask.complete(holding, step)));
  return given;
}

/** @throws RangeError where there is no copy of that step. */
export function recalled(
  copies: Copies | undefined,
  worker: string,
  step: number,
  names: readonly string[],
): Record<string, Tensor> {
  const copy = copyOf(copies, worker, step);
  return Object.fromEntries(names.flatMap((name) => (copy.has(name) ? [[name, copy.get(name)!]] : [])));
}

function copyOf(copies: Copies | undefined, worker: string, step: number): ReadonlyMap<string, Tensor> {
  const copy = copies?.at(step);
  if (!copy) throw new RangeError(`there is no copy of worker ${worker} after step ${step + 1}`);
  return copy;
}
