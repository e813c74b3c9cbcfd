/**
 * One step of a stage, up to the commit gate: its program, and what adds up behind the last operation. It goes on by itself
 * once it is begun, from one tensor that comes to the next.
 */

import { Tensor } from "../../protocols/tensor.ts";
import type { Clock } from "../../runtime/index.ts";
import { CalledBack } from "../inbox.ts";
import { isSharded } from "../scheduler/plan.ts";
import { isOfMicroBatch, type MicroBatchOperation, type Operation } from "../scheduler/program.ts";
import { StepRun } from "../step-run.ts";
import type { Chunk } from "./chunk.ts";
import { Kernels } from "./kernels.ts";
import type { Rest } from "./rest.ts";
import type { Session } from "./session.ts";
import { type StageSpec, type StepReport, updateSpan } from "./spec.ts";
import type { DealtStatistics } from "./statistics.ts";
import { exchangeTied } from "./ties.ts";

/** What a stage goes through a step with. */
export interface Stepping {
  readonly spec: StageSpec;
  readonly chunks: readonly Chunk[];
  /** By chunk; where there is no need, left out. */
  readonly statistics: readonly DealtStatistics[];
  readonly session: Session;
  readonly clock: Clock;
}

/** A step that was begun, with gradients that are clear. */
export class StepUnderWay {
  readonly step: number;
  /** What has come of it. */
  readonly report: Promise<StepReport>;
  failed = false;
  readonly run: StepRun;
  private readonly stepping: Stepping;
  /** What was done of it before. */
  private readonly before: readonly MicroBatchOperation[];
  private readonly operations: readonly Operation[];
  /** So many of them have been carried out. */
  private carriedOut = 0;
  private calledBack: CalledBack | undefined;

  /** @param rest where it is gone on with. */
  constructor(stepping: Stepping, step: number, rest?: Rest) {
    const { spec, session, clock } = stepping;
    const kernels = new Kernels(
      () => clock.now(),
      (error) => session.fail(error),
    );
    this.step = step;
    this.stepping = stepping;
    this.before = rest?.done ?? [];
    this.operations = (rest?.program ?? spec.program).operations;
    this.run = new StepRun(step, spec.microBatches, kernels, clock.now(), rest?.run);
    this.report = this.carryOut();
    this.report.catch(() => {
      this.failed = true;
    });
  }

  /** Resolves when nothing of it goes on, whatever has become of it. */
  async settled(): Promise<void> {
    await this.report.catch(() => {});
    // A kernel cannot be broken off, and may write where the next one reads.
    await this.run.settled();
  }

  /**
   * Comes to rest behind the operation that is being carried out. What members have added up is taken apart.
   * @returns what has been carried out, of micro-batches; null where something has failed.
   */
  async breakOff(): Promise<readonly MicroBatchOperation[] | null> {
    const { session, chunks } = this.stepping;
    this.calledBack = new CalledBack("it goes on with other micro-batches");
    session.callBack(this.calledBack);
    const failure = await this.report.then(
      () => null,
      (error) => error,
    );
    await this.run.settled();
    for (const chunk of chunks) await chunk.atRest();
    if (session.isOver || (failure && failure !== this.calledBack)) return null;
    for (const chunk of chunks) await chunk.takeApart();
    return [...this.before, ...this.operations.slice(0, this.carriedOut).filter(isOfMicroBatch)];
  }

  private async carryOut(): Promise<StepReport> {
    const { statistics, session } = this.stepping;
    const { run } = this;
    for (const each of statistics) await each?.begin();
    for (const [index, operation] of this.operations.entries()) {
      if (this.calledBack) throw this.calledBack;
      await session.worker.carryOut(operation, index, run);
      this.carriedOut = index + 1;
    }
    return finish(this.stepping, run);
  }
}

async function finish(stepping: Stepping, run: StepRun): Promise<StepReport> {
  const { spec, chunks, session, clock } = stepping;
  await run.kernels.ended();
  await addUp(stepping, run);
  const start = clock.now();
  await exchangeTied(chunks, session.mail, run.step, spec.microBatches);
  const sums: number[] = [];
  for (const { executor } of chunks) sums.push(...(await executor.squareSums()));
  const squares = updateSpan(start, clock.now());
  // Of asynchronous updates nothing is left.
  const spans = session.worker.updated.length === 0 ? [...run.spans, squares] : run.spans;
  return {
    squareSums: Tensor.f32([sums.length], sums),
    losses: chunks.some((chunk) => chunk.spec.output === null) ? run.losses : null,
    kernelMs: run.kernelMs + squares.kernelMs,
    copyMs: run.copyMs,
    waitMs: run.waitMs,
    reduceMs: run.reduceMs,
    totalMs: clock.now() - run.began,
    spans,
  };
}

/** Waits until what members have of gradients and statistics has been added up. */
async function addUp({ spec, chunks, statistics, session, clock }: Stepping, run: StepRun): Promise<void> {
  const { group, microBatches } = spec;
  const { collectives } = session;
  const start = clock.now();
  await Promise.all(run.background);
  for (const { index, position, executor } of chunks) {
    await statistics[index]?.reduce(`statistics/${position}`, collectives, microBatches);
    if (isSharded(group.sharing)) await executor.reduce(`gradients/${position}`, collectives);
  }
  run.reduceMs += clock.now() - start;
}
