/**
 * One run's journal, as whoever leads the run writes it: what it has come to so far when somebody else has led it before,
 * and one method for each thing that is to be known when this one is lost as well.
 */

import type { Plan } from "../scheduler/plan.ts";
import { historyOf, type RunHistory } from "./history.ts";
import type { DevicePlace, Journal } from "./journal.ts";
import { planFor } from "./reattach.ts";

/** A plan to go on with, by the devices' present ids, and the generation that it was carried out as. */
export interface PlanBefore {
  readonly plan: Plan;
  readonly generation: number;
}

/** What is told of a run while it is led, so that another may lead it: each before it is relied on. */
export interface Continuity {
  /** The run's name, under which devices keep what they have of it. */
  readonly run: string;
  /** Higher than that of whoever led it before, where several may lead it; else 0. */
  readonly epoch: number;
  planned(plan: Plan, generation: number): Promise<void>;
  committing(step: number, loss: number): Promise<void>;
  pointed(step: number, copies: Readonly<Record<string, readonly string[]>>): Promise<void>;
}

export class RunJournal implements Continuity {
  readonly run: string;
  readonly epoch: number;
  /** Of a run that is gone on with; null for one that begins. */
  readonly before: RunHistory | null;
  private readonly journal: Journal;
  private places: readonly DevicePlace[] = [];

  private constructor(journal: Journal, run: string, epoch: number, before: RunHistory | null) {
    this.journal = journal;
    this.run = run;
    this.epoch = epoch;
    this.before = before;
  }

  /**
   * A run begins.
   * @param run its name, unlike that of any other. @param settings plain data, for whoever goes on with it.
   * @param epoch of the lease that it is led by, if there is one.
   */
  static async begin(
    journal: Journal,
    run: string,
    settings: Readonly<Record<string, unknown>>,
    epoch = 0,
  ): Promise<RunJournal> {
    await journal.append([{ kind: "run", run, settings }], true);
    return new RunJournal(journal, run, epoch, null);
  }

  /** The journal's last run is gone on with. @param epoch as of `begin`. @throws RangeError where there is none. */
  static async goOn(journal: Journal, epoch = 0): Promise<RunJournal> {
    const before = historyOf((await journal.read()).records);
    if (!before) throw new RangeError("the journal has no run to go on with");
    return new RunJournal(journal, before.run, epoch, before);
  }

  /** Says where the devices are that plans speak of from here on. */
  place(devices: readonly DevicePlace[]): void {
    this.places = devices;
  }

  /** The plan to go on with; null where there is none. Devices have been placed. */
  planBefore(): PlanBefore | null {
    const planned = this.before?.planned;
    return planned ? { plan: planFor(planned, this.places), generation: planned.generation } : null;
  }

  async planned(plan: Plan, generation: number): Promise<void> {
    await this.journal.append([{ kind: "plan", generation, plan, devices: this.places }], true);
  }

  async committing(step: number, loss: number): Promise<void> {
    await this.journal.append([{ kind: "step", step, loss }]);
  }

  async pointed(step: number, copies: Readonly<Record<string, readonly string[]>>): Promise<void> {
    await this.journal.append([{ kind: "point", step, copies }]);
  }

  /** @param step steps that are done. */
  async validated(step: number, loss: number): Promise<void> {
    await this.journal.append([{ kind: "validation", step, loss }]);
  }

  /** @param step steps that are done. @param weights SHA-256. */
  async saved(step: number, path: string, weights: string): Promise<void> {
    await this.journal.append([{ kind: "checkpoint", step, path, weights }], true);
  }

  async done(steps: number): Promise<void> {
    await this.journal.append([{ kind: "done", steps }], true);
  }

  /** Resolves when the run is led from here: what is not to be done after another one leads it waits for that. */
  async held(): Promise<void> {
    await this.journal.held?.();
  }

  async close(): Promise<void> {
    await this.journal.close();
  }
}
