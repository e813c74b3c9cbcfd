/**
 * A step that all workers have been told to commit. It is made when they all say so. Where one is lost before it does,
 * nobody knows whether it has: but the others have, and what it would hold can be made of what they keep. So what those who
 * live say decides, as in the termination protocols of atomic commitment, where nothing but the decision is left to be heard
 * (Skeen, "Nonblocking Commit Protocols", 1981): all were ready, or none would have been told.
 */

import type { Course } from "../recovery/course.ts";
import type { CommitReport } from "../stage/spec.ts";
import type { Deployment } from "./deployment.ts";
import { type Plan, workersOf } from "./plan.ts";
import { isAsynchronous } from "./schedule.ts";

/** Of all workers; null of one that was lost. */
export type Said = readonly (CommitReport | null)[];

export class Committing {
  private readonly step: number;
  private readonly deployed: Deployment;
  private readonly plan: Plan;
  private readonly answers: readonly Promise<CommitReport>[];
  private readonly conclude: (said: Said) => void;
  private isConcluded = false;

  /**
   * @param plan that is deployed. @param answers by its workers. @param conclude what there is to do, once, when the step is
   *   made.
   */
  constructor(
    { step, deployed, plan }: { step: number; deployed: Deployment; plan: Plan },
    answers: readonly Promise<CommitReport>[],
    conclude: (said: Said) => void,
  ) {
    this.step = step;
    this.deployed = deployed;
    this.plan = plan;
    this.answers = answers;
    this.conclude = conclude;
    // Whoever waits for them all hears of one alone.
    for (const answer of answers) answer.catch(() => {});
  }

  /** Resolves when all workers have committed it. @throws what one of them fails with. */
  async all(): Promise<Said> {
    return Promise.all(this.answers);
  }

  /**
   * Concludes it where all who live have committed it. Not where members train on their own, who need the lost one to meet,
   * and not where each pass is an update.
   * @param course of the run: it has nothing to do with one that has gone on by another deployment. @param isAlive by device id.
   */
  async settle(
    { deployed, committed }: Pick<Course, "deployed" | "committed">,
    isAlive: (device: string) => boolean,
  ): Promise<void> {
    if (deployed !== this.deployed || committed !== this.step - 1) return;
    const { schedule, stages } = this.plan;
    if (isAsynchronous(schedule) || stages.some(({ sharing }) => sharing === "local")) return;
    const said = await Promise.all(
      workersOf(this.plan).map(({ worker, member }) =>
        isAlive(member.device) ? this.answers[worker]! : null,
      ),
    ).catch(() => null);
    if (said?.some((each) => each !== null)) this.done(said);
  }

  /** Concludes it, unless somebody has. */
  done(said: Said): void {
    if (this.isConcluded) return;
    this.isConcluded = true;
    this.conclude(said);
  }
}
