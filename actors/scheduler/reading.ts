/** What the stages of a plan hold, read of them: names, in groups that fit into messages, and values whole again. */

import { LOSS_SCALE } from "../../nn/optim/loss-scale.ts";
import type { OptimizerConfig } from "../../nn/optim/optimizer.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import type { Ref } from "../../runtime/index.ts";
import type { StageHoldings } from "../stage/spec.ts";
import type { Stage } from "../stage.ts";
import { heldInGroups, type Part } from "./parts.ts";
import type { Worker } from "./plan.ts";
import { type Share, wholeValues } from "./whole.ts";

type Values = Readonly<Record<string, Tensor>>;

/** Whose values are read. */
export interface Read {
  readonly workers: readonly Worker[];
  /** By worker. */
  readonly stages: readonly Ref<Stage>[];
  readonly holdings: readonly StageHoldings[];
  /** What part of the micro-batches each worker has. */
  readonly shares: readonly number[];
  /** By position. */
  readonly parts: readonly Part[];
  readonly optimizer: OptimizerConfig;
  /** Whether members train on their own and meet now and then. */
  readonly isLocal: boolean;
}

export class Reading {
  private readonly read: Read;

  constructor(read: Read) {
    this.read = read;
  }

  /** Values whole, of what stages say. @param ask a stage for some of what training changes of it. */
  async whole(
    ask: (stage: Ref<Stage>, names: readonly string[], worker: number) => Values | Promise<Values>,
  ): Promise<Record<string, Tensor>> {
    const said: Share[] = [];
    await Promise.all(
      this.read.workers.map(async (worker) => {
        for (const names of this.changing(worker)) {
          const values = await ask(this.read.stages[worker.worker]!, names, worker.worker);
          said.push({ rank: worker.rank, values });
        }
      }),
    );
    const cuts = Object.assign({}, ...this.read.holdings.map((holdings) => holdings.cuts));
    return wholeValues(said, cuts, this.read.shares);
  }

  /** Names of what training changes, by stage. */
  layout(): readonly (readonly string[])[] {
    const stages = Map.groupBy(this.read.workers, ({ stage }) => stage.stage);
    const changing = ({ worker }: Worker) => this.read.holdings[worker]!.changing;
    return [...stages.values()].map((members) => [...new Set(members.flatMap(changing))]);
  }

  /** Names of what a chunk holds and is kept of it. */
  groups(position: number): string[][] {
    return heldInGroups(this.read.parts[position]!, this.read.optimizer, this.read.isLocal);
  }

  /** Names of what a worker has to say of the state, in groups that fit into messages. */
  private changing({ worker, rank, positions }: Worker): string[][] {
    const { cuts } = this.read.holdings[worker]!;
    const groups = positions.flatMap((position) => {
      const frozen = new Set(this.read.parts[position]!.roles.frozen);
      return this.groups(position).map((group) => group.filter((name) => !frozen.has(name)));
    });
    if (rank === 0) return [[LOSS_SCALE], ...groups].filter(({ length }) => length > 0);
    // Whoever has the same as the first has nothing to add.
    const own = groups.map((group) => group.filter((name) => this.read.isLocal || cuts[name]));
    return own.filter(({ length }) => length > 0);
  }
}
