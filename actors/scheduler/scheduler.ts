/**
 * The scheduler: has the devices measured, makes the plan, deploys the stages, and drives the steps through the
 * commit gate. Its thinking is pure and lives beside it (`partition`, `schedule`, `plan`, `simulate`); this file is
 * its hands.
 *
 * The commit gate: every stage reports when it has all gradients of a step; only when all have is the step
 * committed, which updates the parameters of every stage. A failure before that leaves the parameters of all
 * stages as the step before left them.
 */

import type { Graph } from "../../nn/onnx/graph.ts";
import { encodeModel } from "../../nn/onnx/proto.ts";
import { type OptimizerConfig, stateNames } from "../../nn/optim/optimizer.ts";
import type { SegmentProfile } from "../../nn/profile.ts";
import { cutGraph, findSegments, type Segment } from "../../nn/segments.ts";
import { Tensor } from "../../protocols/tensor.ts";
import { Actor, type Down, type Ref } from "../../runtime/index.ts";
import type { DataSource, Destination } from "../data/source.ts";
import type { Device, DeviceDescription, DeviceUsage } from "../device.ts";
import type { Stage, StageSpec, StepReport } from "../stage.ts";
import type { LinkProfile, Profile, SegmentCost } from "./cost.ts";
import { makePlan, type Plan, type PlanOptions, planPrograms } from "./plan.ts";

export interface SchedulerOptions extends PlanOptions {
  readonly optimizer: OptimizerConfig;
  /** The model's forward graph for one micro-batch, ending in the loss. */
  readonly model: Graph;
  /** Which of its inputs are parameters. */
  readonly parameters: readonly string[];
}

export interface StepResult {
  readonly step: number;
  readonly loss: number;
  readonly gradNorm: number;
  readonly learningRate: number;
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
  /** The feed of the step that comes next, begun while the one before it runs. */
  #fed: { step: number; done: Promise<void> } | undefined;
  #lost: DeviceLost | undefined;
  #giveUp: (error: DeviceLost) => void = () => {};

  constructor(devices: readonly Ref<Device>[], data: Ref<DataSource>, options: SchedulerOptions) {
    super();
    this.#devices = devices;
    this.#data = data;
    this.#options = options;
    this.#segments = findSegments(options.model, new Set(options.parameters));
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

  /** Starts the plan's stages and gives them their parameters (and moments, where given). */
  async deploy(values: Readonly<Record<string, Tensor>>): Promise<void> {
    const plan = this.#plan!;
    const programs = planPrograms(plan);
    const { model, parameters, optimizer, microBatches } = this.#options;
    await this.#guard(async () => {
      this.#stages = await Promise.all(
        plan.stages.map(({ device, from, to, recompute }, i) => {
          const spec: StageSpec = {
            generation: GENERATION,
            program: programs[i]!,
            microBatches,
            graph: onnx(cutGraph(model, this.#segments, from, to)),
            parameters: this.#parametersOf(from, to),
            input: this.#segments[from]!.input,
            output: this.#segments[to - 1]!.output,
            recompute,
            optimizer,
            totalParameters: parameters.length,
          };
          return this.#devices[Number(device)]!.ask.host(spec, this.context.self);
        }),
      );
      await Promise.all(
        this.#stages.map(async (stage, i) => {
          const { from, to } = plan.stages[i]!;
          const own = this.#parametersOf(from, to)
            .flatMap((name) => [name, ...stateNames(optimizer, { name, shape: values[name]!.shape })])
            .filter((name) => values[name]);
          await stage.ask.load(Object.fromEntries(own.map((name) => [name, values[name]!])));
          await stage.ask.connect(this.#stages[i - 1] ?? null, this.#stages[i + 1] ?? null);
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

      const sums = reports.flatMap(({ squareSums }) => Array.from(squareSums.f32()));
      const all = Tensor.f32([sums.length], sums);
      const updates = await Promise.all(this.#stages.map((stage) => stage.ask.commit(step, all)));
      const { gradNorm, learningRate } = updates[0]!;
      return {
        step,
        loss: mean(reports.at(-1)!.losses!),
        gradNorm,
        learningRate,
        reports: reports.map((report, i) => ({ ...report, spans: [...report.spans, updates[i]!.span] })),
      };
    });
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

  /** Parameters and moments of the whole model, by name; borrowed until the next step. */
  async state(): Promise<Record<string, Tensor>> {
    return this.#guard(async () => {
      const states = await Promise.all(this.#stages.map((stage) => stage.ask.state()));
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

  #parametersOf(from: number, to: number): readonly string[] {
    return this.#segments.slice(from, to).flatMap((segment) => segment.parameters);
  }

  get #destination(): Destination {
    const { microBatches } = this.#options;
    const readers = { ids: [this.#stages[0]!], targets: [this.#stages.at(-1)!] };
    return { generation: GENERATION, microBatches, readers };
  }

  /**
   * Measures one device after the other, since devices of one machine would disturb each other. Links are those
   * between neighbours; any two devices may become neighbours when the planner is free to leave some out.
   */
  async #measure(): Promise<{ segments: SegmentCost[]; costs: Profile }> {
    const { model, parameters, microBatches, optimizer, strategy } = this.#options;
    const request = { graph: onnx(model), parameters, microBatches, optimizer };
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
    const segments = this.#segments.map(({ index, parameterBytes, activationBytes }): SegmentCost => {
      const { stashBytes } = measured[0]![index]!;
      return { name: `segment ${index}`, parameterBytes, activationBytes, stashBytes };
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
