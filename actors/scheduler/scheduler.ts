/**
 * The scheduler: has the devices measured, makes the plan, deploys the stages, and drives the steps through the
 * commit gate. Its thinking is pure and lives beside it (`partition`, `schedule`, `plan`, `simulate`); this file is
 * its hands.
 *
 * The commit gate: every stage reports when it has all gradients of a step; only when all have is the step
 * committed, which updates the parameters of every stage. A failure before that leaves the parameters of all
 * stages as the step before left them.
 */

import { type Model, type Roles, rolesWithin } from "../../nn/model.ts";
import type { Graph } from "../../nn/onnx/graph.ts";
import { encodeModel } from "../../nn/onnx/proto.ts";
import { diverged, firstNonFinite } from "../../nn/optim/finite.ts";
import { isScaled, LOSS_SCALE } from "../../nn/optim/loss-scale.ts";
import type { OptimizerConfig } from "../../nn/optim/optimizer.ts";
import type { SegmentProfile } from "../../nn/profile.ts";
import { findSegments, type Segment } from "../../nn/segments.ts";
import { Tensor } from "../../protocols/tensor.ts";
import { Actor, type Down, type Ref } from "../../runtime/index.ts";
import type { DataSource, Destination } from "../data/source.ts";
import type { Device, DeviceDescription, DeviceUsage } from "../device.ts";
import type { Stage, StageSpec, StepReport } from "../stage.ts";
import type { LinkProfile, Profile, SegmentCost } from "./cost.ts";
import { heldInGroups, type Part, partsOf, segmentSizes } from "./parts.ts";
import { chunksOf, type Plan, planPrograms, workersOf } from "./plan.ts";
import { makePlan, type PlanOptions } from "./planner.ts";

export interface SchedulerOptions extends PlanOptions {
  readonly optimizer: OptimizerConfig;
  readonly model: Model;
  /** What randomness inside the model is drawn from. */
  readonly seed: number;
  /** Carried out as it is, with nothing measured; its devices' ids are their places in the order they are given in. */
  readonly plan?: Plan;
}

export interface StepResult {
  readonly step: number;
  readonly loss: number;
  readonly gradNorm: number;
  readonly learningRate: number;
  /** Scaled gradients overflowed: nothing was updated, and the loss's scale was halved. */
  readonly skipped: boolean;
  readonly reports: readonly StepReport[];
}

export class DeviceLost extends Error {
  readonly code = "DEVICE_LOST";
  override readonly name = "DeviceLost";
}

/** One deployment is made per run; recovery will count on. */
const GENERATION = 1;

export class Scheduler extends Actor {
  readonly #devices: readonly Ref<Device>[];
  readonly #data: Ref<DataSource>;
  readonly #options: SchedulerOptions;
  readonly #segments: readonly Segment[];
  #descriptions: readonly DeviceDescription[] = [];
  #plan: Plan | undefined;
  #stages: readonly Ref<Stage>[] = [];
  /** What each stage holds and reads, by stage. */
  #parts: readonly Part[] = [];
  /** The feed of the step that comes next, begun while the one before it runs. */
  #fed: { step: number; done: Promise<void> } | undefined;
  #lost: DeviceLost | undefined;
  #giveUp: (error: DeviceLost) => void = () => {};

  constructor(devices: readonly Ref<Device>[], data: Ref<DataSource>, options: SchedulerOptions) {
    super();
    this.#devices = devices;
    this.#data = data;
    this.#options = options;
    this.#segments = findSegments(options.model);
  }

  override onStart(): void {
    for (const device of this.#devices) this.context.monitor(device);
  }

  /** A device that dies ends the run; the first loss is the one that is told. */
  override onDown(down: Down): void {
    const index = this.#devices.findIndex((device) => device.key === down.ref.key);
    const name = this.#descriptions[index]?.name ?? `device ${index + 1}`;
    this.#lost ??= new DeviceLost(`${name} is gone: ${down.reason.message}`);
    this.#giveUp(this.#lost);
  }

  /** Measures the devices and makes the plan. @throws PlanError in one line when there is none. */
  async plan(): Promise<Plan> {
    return this.#guard(async () => {
      this.#descriptions = await Promise.all(this.#devices.map((device) => device.ask.describe()));
      if (this.#options.plan) {
        this.#plan = this.#options.plan;
        return this.#plan;
      }
      const profile = await this.#measure();
      const { segments, costs } = profile;
      this.#plan = makePlan({
        segments,
        devices: this.#descriptions.map(({ name, memoryBytes }, i) => ({ id: `${i}`, name, memoryBytes })),
        profile: costs,
        options: this.#options,
      });
      return this.#plan;
    });
  }

  /**
   * Starts the plan's stages and gives them what they hold, once: parameters, frozen values and statistics, and the
   * optimiser's state where given. The tensors are borrowed until it is done.
   */
  async deploy(values: Readonly<Record<string, Tensor>>): Promise<void> {
    const plan = this.#plan!;
    const programs = planPrograms(plan);
    const { model, optimizer, microBatches, seed, stashBytes = 0 } = this.#options;
    const workers = workersOf(plan);
    this.#parts = partsOf(model, this.#segments, chunksOf(plan));
    await this.#guard(async () => {
      this.#stages = await Promise.all(
        this.#parts.map(({ graph, roles, input, output, inputGradient }, i) => {
          const spec: StageSpec = {
            generation: GENERATION,
            program: programs[i]!,
            ...{ microBatches, graph: onnx(graph), roles, input, output, inputGradient },
            ...{ recompute: workers[i]!.stage.recompute, stashBytes },
            ...{ optimizer, totalParameters: model.parameters.length, seed },
          };
          return this.#devices[Number(workers[i]!.member.device)]!.ask.host(spec, this.context.self);
        }),
      );
      await Promise.all(
        this.#stages.map(async (stage, i) => {
          for (const group of [...heldInGroups(this.#parts[i]!, optimizer), [LOSS_SCALE]]) {
            const given = group.filter((name) => values[name]);
            if (given.length > 0) {
              await stage.ask.load(Object.fromEntries(given.map((name) => [name, values[name]!])));
            }
          }
          const tied = Object.entries(this.#parts[i]!.tied).map(([name, others]) => [
            name,
            others.map((other) => this.#stages[other]!),
          ]);
          const neighbours = [this.#stages[i - 1] ?? null, this.#stages[i + 1] ?? null] as const;
          await stage.ask.connect(...neighbours, Object.fromEntries(tied));
        }),
      );
    });
  }

  /** One training step: fed, run, and committed on every stage. */
  async step(step: number, lastStep: number): Promise<StepResult> {
    return this.#guard(async () => {
      const fed = this.#fed?.step === step ? this.#fed.done : this.#data.ask.feed(step, this.#destination);
      const running = this.#stages.map((stage) => stage.ask.train(step));
      // The next step's data travels while this one computes.
      if (step < lastStep) {
        const done = this.#data.ask.feed(step + 1, this.#destination);
        done.catch(() => {});
        this.#fed = { step: step + 1, done };
      }
      const [reports] = await Promise.all([Promise.all(running), fed]);

      const sums = this.#checked(step, reports);
      const all = Tensor.f32([sums.length], sums);
      const updates = await Promise.all(this.#stages.map((stage) => stage.ask.commit(step, all)));
      const { gradNorm, learningRate, skipped } = updates[0]!;
      return {
        step,
        loss: mean(reports.at(-1)!.losses!),
        ...{ gradNorm, learningRate, skipped },
        reports: reports.map((report, i) => ({ ...report, spans: [...report.spans, updates[i]!.span] })),
      };
    });
  }

  /**
   * The square sums of all parameters, in the model's order.
   * @throws DivergedError when a loss or a gradient is no number: before the gate, so no stage has changed. Gradients of
   *   a scaled loss may overflow; whether that is an error is decided behind the gate, by all stages alike.
   */
  #checked(step: number, reports: readonly StepReport[]): Float32Array<ArrayBuffer> {
    const { model, optimizer } = this.#options;
    const loss = firstNonFinite(reports.at(-1)!.losses!);
    if (loss) throw diverged("loss", step + 1, loss.value);
    const place = new Map(model.parameters.map((name, i) => [name, i]));
    const sums = new Float32Array(model.parameters.length);
    reports.forEach(({ squareSums }, i) => {
      const own = squareSums.f32();
      const names = this.#parameterNames(i);
      const broken = isScaled(optimizer) ? undefined : firstNonFinite(own);
      if (broken) {
        throw diverged(`gradient of ${names[broken.index]} (stage ${i + 1})`, step + 1, broken.value);
      }
      names.forEach((name, k) => {
        sums[place.get(name)!] = own[k]!;
      });
    });
    return sums;
  }

  /** Parameters of a stage in the order it reports them in, that of its graph's inputs. */
  #parameterNames(stage: number): string[] {
    const { graph, roles } = this.#parts[stage]!;
    const own = new Set(roles.parameters);
    return graph.inputs.map(({ name }) => name).filter((name) => own.has(name));
  }

  /** Mean loss over the validation windows. `pass` tells one pass from another. */
  async evaluate(pass: number): Promise<number> {
    return this.#guard(async () => {
      const count = await this.#data.ask.validationCount();
      const [losses] = await Promise.all([
        Promise.all(this.#stages.map((stage) => stage.ask.evaluate(pass, count))),
        this.#data.ask.feedValidation(pass, this.#destination),
      ]);
      return mean(losses.at(-1)!);
    });
  }

  /**
   * What training has changed, by name: parameters, the optimiser's state, statistics. Of a stage on this node it is
   * borrowed until the next step.
   */
  async state(): Promise<Record<string, Tensor>> {
    const { optimizer } = this.#options;
    return this.#guard(async () => {
      const states = await Promise.all(
        this.#stages.map(async (stage, i) => {
          const frozen = new Set(this.#parts[i]!.roles.frozen);
          const groups = heldInGroups(this.#parts[i]!, optimizer);
          const found: Record<string, Tensor>[] = [await stage.ask.state([LOSS_SCALE])];
          for (const group of groups) {
            const names = group.filter((name) => !frozen.has(name));
            if (names.length > 0) found.push(await stage.ask.state(names));
          }
          return Object.assign({}, ...found);
        }),
      );
      return Object.assign({}, ...states);
    });
  }

  /** What each device has used, in the devices' order. */
  usage(): Promise<DeviceUsage[]> {
    return this.#guard(() => Promise.all(this.#devices.map((device) => device.ask.usage())));
  }

  descriptions(): readonly DeviceDescription[] {
    return this.#descriptions;
  }

  get #destination(): Destination {
    const readers: Record<string, Ref<Stage>[]> = {};
    this.#parts.forEach(({ data }, i) => {
      for (const name of data) readers[name] = [...(readers[name] ?? []), this.#stages[i]!];
    });
    return { generation: GENERATION, microBatches: this.#options.microBatches, readers };
  }

  /**
   * Measures one device after the other, since devices of one machine would disturb each other. Links are those
   * between neighbours; any two devices may become neighbours when the planner is free to leave some out.
   */
  async #measure(): Promise<{ segments: SegmentCost[]; costs: Profile }> {
    const { model, microBatches, optimizer, strategy } = this.#options;
    const roles: Roles = rolesWithin(model, model.graph);
    const request = { graph: onnx(model.graph), roles, microBatches, optimizer };
    const measured: SegmentProfile[][] = [];
    for (const device of this.#devices) measured.push(await device.ask.profile(request));

    const links: Record<string, Record<string, LinkProfile>> = {};
    for (const [i, from] of this.#devices.entries()) {
      const row: Record<string, LinkProfile> = {};
      for (const [j, to] of this.#devices.entries()) {
        const linked = strategy === "auto" ? i !== j : Math.abs(i - j) === 1;
        if (linked) row[j] = await from.ask.measureLink(to);
      }
      links[i] = row;
    }
    const segments = this.#segments.map((segment): SegmentCost => {
      const { index } = segment;
      const { stashBytes } = measured[0]![index]!;
      const trained = this.#segments[index + 1]?.inputTrained ?? true;
      return { name: `segment ${index}`, trained, ...segmentSizes(model, segment, optimizer), stashBytes };
    });
    const column = (profile: SegmentProfile[], key: "forwardMs" | "backwardMs" | "stepMs") =>
      profile.map((segment) => segment[key]);
    const devices = Object.fromEntries(
      measured.map((profile, i) => [
        i,
        {
          forwardMs: column(profile, "forwardMs"),
          backwardMs: column(profile, "backwardMs"),
          stepMs: column(profile, "stepMs"),
        },
      ]),
    );
    const hosts = new Set(this.#descriptions.map(({ host }) => host));
    const shared = hosts.size === 1 ? { cores: this.#descriptions[0]!.cores } : {};
    return { segments, costs: { devices, links, ...shared } };
  }

  /** Runs `work`, but no longer than all devices live: what a lost one would have sent will never come. */
  async #guard<T>(work: () => Promise<T>): Promise<T> {
    if (this.#lost) throw this.#lost;
    const lost = new Promise<never>((_, reject) => {
      this.#giveUp = reject;
    });
    try {
      return await Promise.race([work(), lost]);
    } catch (error) {
      // A stage may notice a loss before the scheduler does: let the loss be what is told.
      if (!this.#lost) await this.context.clock.sleep(LOSS_GRACE_MS);
      throw this.#lost ?? error;
    }
  }
}

/** How long after a stage's failure the loss of a device may still explain it. */
const LOSS_GRACE_MS = 100;

function onnx(graph: Graph): Tensor {
  const bytes = encodeModel(graph);
  return new Tensor("u8", [bytes.byteLength], bytes);
}

function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}
