/**
 * A recovery that no step has been committed behind yet: what it has come to so far. Where somebody is lost again before one
 * is, it is all one.
 */

import type { Clock } from "../../runtime/index.ts";
import type { Deployment } from "../scheduler/deployment.ts";
import type { Plan } from "../scheduler/plan.ts";
import type { RunRecovery } from "../scheduler/scheduler-options.ts";
import type { Recovered } from "./recovery.ts";
import type { Loss } from "./roster.ts";

type SoFar = Omit<RunRecovery, "resumeMs">;

interface Under extends SoFar {
  /** When it was known. */
  readonly at: number;
  /** Milliseconds until a step was committed behind it; undefined before. */
  readonly resumeMs?: number;
  /** What has followed what, and how many steps that were committed are made again. */
  readonly followed: readonly { readonly deployment: Deployment; readonly again: number }[];
}

/** What devices were lost, by whom it is told. */
interface Lost {
  readonly losses: readonly Loss[];
  readonly names: readonly string[];
  /** When it was known; of the first loss, where there is one. */
  readonly at: number;
  /** Steps from one whose outcome was copied to the next. */
  readonly keptEvery: number;
  /** What has happened, where none were. */
  readonly why?: string;
}

export class Resuming {
  private readonly clock: Clock;
  private under: Under | undefined;

  constructor(clock: Clock) {
    this.clock = clock;
  }

  /** What there is to tell of it; undefined where there is none. */
  get soFar(): SoFar | undefined {
    return this.under;
  }

  /** The run begins without these. */
  begin(lost: Lost, plan: Plan): void {
    const begun = this.begun(lost, plan);
    this.under = { ...begun, lost: lost.names, readyMs: this.clock.now() - begun.at };
  }

  /** The run goes on behind a step of which all have what it left. @param again steps that were committed before. */
  add(lost: Lost, { plan, bytes, fromCheckpoint, deployment }: Recovered, again: number): void {
    const before = this.under ?? this.begun(lost, plan);
    this.under = {
      ...{ ...before, plan, stepsLost: before.stepsLost + again },
      readyMs: this.clock.now() - before.at,
      lost: [...before.lost, ...lost.names],
      movedBytes: before.movedBytes + bytes,
      followed: [...before.followed, { deployment, again }],
      fromCheckpoint: before.fromCheckpoint || fromCheckpoint,
    };
  }

  /** A step is committed behind it, though not all is told yet that there is to tell. */
  passed(): void {
    if (this.under)
      this.under = { ...this.under, resumeMs: this.under.resumeMs ?? this.clock.now() - this.under.at };
  }

  /** A step is committed behind it, by this plan: what is told of it; undefined where there is none. */
  end(plan: Plan): RunRecovery | undefined {
    if (!this.under) return undefined;
    // Before a step was committed it may have gone over to another plan.
    this.passed();
    const { at: _, followed, resumeMs, why, ...recovery } = { ...this.under, plan };
    this.under = undefined;
    // Not before is known what each was in the middle of.
    const operationsReplayed = followed.reduce(
      (sum, { deployment, again }) => sum + deployment.repeated(again),
      0,
    );
    const isOfNobody = why !== undefined && recovery.lost.length === 0;
    return { ...recovery, ...(isOfNobody && { why }), operationsReplayed, resumeMs: resumeMs! };
  }

  private begun({ losses, at, keptEvery, why }: Lost, plan: Plan): Under {
    const first = losses[0] ?? { silentMs: 0, at };
    return {
      ...{ lost: [], detectMs: first.silentMs, at: first.at, readyMs: 0, movedBytes: 0, plan, keptEvery },
      ...{ operationsReplayed: 0, fromCheckpoint: false, stepsLost: 0, followed: [] },
      ...(why !== undefined && { why }),
    };
  }
}
