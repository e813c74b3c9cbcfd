/**
 * A plan that runs: its workers, as stages on devices, and what the scheduler does with all of them at once. What of the
 * model is where, is known here and nowhere above.
 */

import { diverged, firstNonFinite } from "../../nn/optim/finite.ts";
import { isScaled, LOSS_SCALE } from "../../nn/optim/loss-scale.ts";
import type { Segment } from "../../nn/segments.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import type { Ref } from "../../runtime/index.ts";
import type { Destination, Reader } from "../data/source.ts";
import type { Device } from "../device.ts";
import type { StageSpec, StepReport } from "../stage/spec.ts";
import type { Stage } from "../stage.ts";
import { heldInGroups, type Part, partsOf } from "./parts.ts";
import { chunksOf, type Plan, planPrograms, type Worker, workersOf } from "./plan.ts";
import { isDealt } from "./routes.ts";
import { peersOf, type SpecOptions, specsOf } from "./specs.ts";

export class Deployment {
  /** By worker. */
  readonly stages: readonly Ref<Stage>[];
  private readonly options: SpecOptions;
  private readonly microBatches: number;
  private readonly workers: readonly Worker[];
  private readonly specs: readonly StageSpec[];
  /** By position. */
  private readonly parts: readonly Part[];

  private constructor(
    plan: Plan,
    parts: readonly Part[],
    specs: readonly StageSpec[],
    stages: readonly Ref<Stage>[],
    options: SpecOptions,
  ) {
    this.microBatches = plan.microBatches;
    this.workers = workersOf(plan);
    this.parts = parts;
    this.specs = specs;
    this.stages = stages;
    this.options = options;
  }

  /**
   * Starts the workers of a plan, whose device ids are places among `devices`, for as long as `owner` lives.
   * @throws ProgramError, GraphError, EngineError: what cannot be run, or not there.
   */
  static async start(
    plan: Plan,
    segments: readonly Segment[],
    devices: readonly Ref<Device>[],
    owner: Ref<any>,
    options: SpecOptions,
  ): Promise<Deployment> {
    const parts = partsOf(options.model, segments, chunksOf(plan));
    const specs = specsOf(plan, parts, planPrograms(plan), options);
    const stages = await Promise.all(
      workersOf(plan).map(({ member, worker }) =>
        devices[Number(member.device)]!.ask.host(specs[worker]!, owner),
      ),
    );
    return new Deployment(plan, parts, specs, stages, options);
  }

  /** Gives every stage what it holds, once. The tensors are borrowed until it is done. */
  async load(values: Readonly<Record<string, Tensor>>): Promise<void> {
    await Promise.all(
      this.workers.map(async ({ worker, positions }) => {
        const stage = this.stages[worker]!;
        for (const position of positions) {
          for (const group of [...this.groups(position), [LOSS_SCALE]]) {
            const given = group.filter((name) => values[name]);
            if (given.length === 0) continue;
            await stage.ask.load(Object.fromEntries(given.map((name) => [name, values[name]!])));
          }
        }
        const peers = [...peersOf(this.specs[worker]!)].map((peer) => [peer, this.stages[peer]!]);
        await stage.ask.connect(Object.fromEntries(peers));
      }),
    );
  }

  /** Where data goes. */
  destination(): Destination {
    const readers: Record<string, Reader[]> = {};
    for (const { worker, stage, member, positions } of this.workers) {
      const microBatches = isDealt(stage.sharing) ? member.microBatches : null;
      const names = new Set(positions.flatMap((position) => this.parts[position]!.data));
      for (const name of names) {
        readers[name] ??= [];
        readers[name].push({ stage: this.stages[worker]!, microBatches });
      }
    }
    return { generation: this.options.generation, microBatches: this.microBatches, readers };
  }

  /** Losses of all micro-batches, from what those that hold the end of the model say of theirs. */
  losses(reported: readonly (readonly number[] | null)[]): number[] {
    const losses: number[] = [];
    const last = this.parts.length - 1;
    for (const { worker, positions } of this.workers) {
      if (!positions.includes(last)) continue;
      reported[worker]?.forEach((loss, microBatch) => {
        if (!Number.isNaN(loss) || losses[microBatch] === undefined) losses[microBatch] = loss;
      });
    }
    return losses;
  }

  /**
   * The square sums of all parameters, in the model's order, each once.
   * @throws DivergedError when a gradient is no number: before the gate, so no stage has changed. Gradients of a scaled
   *   loss may overflow; whether that is an error is decided behind the gate, by all stages alike.
   */
  squareSums(step: number, reports: readonly StepReport[]): Float32Array<ArrayBuffer> {
    const { model, optimizer } = this.options;
    const place = new Map(model.parameters.map((name, i) => [name, i]));
    const sums = new Float32Array(model.parameters.length);
    for (const { worker, rank, stage, positions } of this.workers) {
      // Members that have all of a stage have the same gradients of it.
      if (rank > 0) continue;
      const own = reports[worker]!.squareSums.f32();
      const names = positions.flatMap((position) => this.parameterNames(position));
      const broken = isScaled(optimizer) ? undefined : firstNonFinite(own);
      if (broken) {
        const where = `gradient of ${names[broken.index]} (stage ${stage.stage + 1})`;
        throw diverged(where, step + 1, broken.value);
      }
      names.forEach((name, k) => {
        sums[place.get(name)!] = own[k]!;
      });
    }
    return sums;
  }

  /** What training has changed, by name; see `Stage.state`. */
  async state(): Promise<Record<string, Tensor>> {
    const states = await Promise.all(
      this.workers
        .filter(({ rank }) => rank === 0)
        .map(async ({ worker, positions }) => {
          const stage = this.stages[worker]!;
          const found: Record<string, Tensor>[] = [await stage.ask.state([LOSS_SCALE])];
          for (const position of positions) {
            const frozen = new Set(this.parts[position]!.roles.frozen);
            for (const group of this.groups(position)) {
              const names = group.filter((name) => !frozen.has(name));
              if (names.length > 0) found.push(await stage.ask.state(names));
            }
          }
          return Object.assign({}, ...found);
        }),
    );
    return Object.assign({}, ...states);
  }

  /** Names of what a chunk holds, in groups that fit into messages. */
  private groups(position: number): string[][] {
    return heldInGroups(this.parts[position]!, this.options.optimizer);
  }

  /** Parameters of a chunk in the order it reports them in, that of its graph's inputs. */
  private parameterNames(position: number): string[] {
    const { graph, roles } = this.parts[position]!;
    const own = new Set(roles.parameters);
    return graph.inputs.map(({ name }) => name).filter((name) => own.has(name));
  }
}
