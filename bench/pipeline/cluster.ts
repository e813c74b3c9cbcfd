/**
 * Device processes with sleeping kernels, and the schedulers that drive pipelines over them, one after the other: actors, programs,
 * transports and the commit gate are those of a training run.
 */

import { DataSource } from "../../actors/data/source.ts";
import type { Device } from "../../actors/device.ts";
import { Scheduler, type StepResult } from "../../actors/scheduler/scheduler.ts";
import { initialState } from "../../actors/train.ts";
import { type TransportChoice, transportsOf } from "../../cli/transports.ts";
import { DEFAULT_ADAMW } from "../../nn/optim/adamw.ts";
import { NodeRuntime, type Ref, type Transport } from "../../runtime/index.ts";
import { machineId } from "../../runtime/platform/machine.ts";
import { LineChild } from "../child.ts";
import { chainFeed, chainModel } from "./model.ts";
import { dealtPlan, type Pipeline } from "./plan.ts";
import { deviceName, type Kernels, type KernelTimes } from "./times.ts";

/** What a device process is told. */
export interface PipelineDevice {
  readonly kernels: readonly Kernels[];
  readonly transport: TransportChoice;
}

/** Plain text, on this machine. */
export function nodeTransports(transport: TransportChoice): Transport[] {
  const security = { token: undefined, certificate: undefined, coordinator: false, insecure: false };
  return transportsOf(security, transport);
}

/** A pipeline, and what the kernels of one of its chunks take. */
export interface TimedPipeline extends Pipeline {
  readonly times: KernelTimes;
}

export class PipelineCluster {
  private readonly children: readonly LineChild[];
  private readonly node: NodeRuntime;
  private readonly nodes: readonly string[];

  private constructor(children: readonly LineChild[], node: NodeRuntime, nodes: readonly string[]) {
    this.children = children;
    this.node = node;
    this.nodes = nodes;
  }

  /** @param pipelines that will be started, each of as many stages as there are to be processes. */
  static async open(
    stages: number,
    pipelines: readonly TimedPipeline[],
    transport: TransportChoice = "auto",
  ): Promise<PipelineCluster> {
    const kernels = new Map(pipelines.map(kernelsOf).map((own) => [deviceName(own), own]));
    const told: PipelineDevice = { kernels: [...kernels.values()], transport };
    const script = new URL("./device.ts", import.meta.url).pathname;
    const children = await Promise.all(
      Array.from({ length: stages }, (_, i) =>
        LineChild.start({ command: [process.execPath, script, `device-${i + 1}`, JSON.stringify(told)] }),
      ),
    );
    const node = new NodeRuntime({
      name: "coordinator",
      transports: nodeTransports(transport),
      machine: machineId(),
    });
    try {
      const nodes: string[] = [];
      for (const { greeting } of children) nodes.push((await node.connect(greeting)).id);
      return new PipelineCluster(children, node, nodes);
    } catch (error) {
      await node.close();
      for (const child of children) await child.close();
      throw error;
    }
  }

  async start(pipeline: TimedPipeline): Promise<RunningPipeline> {
    const { node } = this;
    const { stages, chunks, microBatches, schedule } = pipeline;
    const own = deviceName(kernelsOf(pipeline));
    const devices: Ref<Device>[] = [];
    for (const id of this.nodes) devices.push((await node.lookup<Device>(id, own))!);
    const model = chainModel(stages * chunks);
    const data = await node.spawn(DataSource, [chainFeed]);
    const plan = dealtPlan(pipeline);
    const options = { strategy: "pipeline", schedule, recompute: false, seed: 1, microBatches };
    const scheduler = await node.spawn(Scheduler, [
      devices,
      data,
      { ...options, model, plan, optimizer: { ...DEFAULT_ADAMW, steps: 1_000_000 } },
    ]);
    await scheduler.ask.plan();
    await scheduler.ask.deploy(await initialState(model, 1));
    return new RunningPipeline(scheduler, async () => {
      await node.stop(scheduler);
      await node.stop(data);
    });
  }

  async close(): Promise<void> {
    await this.node.close();
    for (const child of this.children) await child.close();
  }
}

export class RunningPipeline {
  private readonly scheduler: Ref<Scheduler>;
  private done = 0;
  /** Ends it; the processes stay. */
  readonly close: () => Promise<void>;

  constructor(scheduler: Ref<Scheduler>, close: () => Promise<void>) {
    this.scheduler = scheduler;
    this.close = close;
  }

  /**
   * Milliseconds of so many steps, which follow each other directly as in a run, and what the stages told of each: a
   * step's time is what lies between the result before it and its own.
   */
  async steps(count: number): Promise<(StepResult & { readonly ms: number })[]> {
    const measured: (StepResult & { readonly ms: number })[] = [];
    const last = this.done + count - 1;
    while (this.done <= last) {
      const began = performance.now();
      const result = await this.scheduler.ask.step(this.done++, last, true);
      measured.push({ ...result, ms: performance.now() - began });
    }
    return measured;
  }
}

function kernelsOf({ stages, chunks, times }: TimedPipeline): Kernels {
  return { chunks: stages * chunks, times };
}
