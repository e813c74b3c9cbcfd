/**
 * Device processes with sleeping kernels, and the scheduler that drives a pipeline over them: actors, programs,
 * transports and the commit gate are those of a training run.
 */

import { DataSource } from "../../actors/data/source.ts";
import type { Device } from "../../actors/device.ts";
import { Scheduler, type StepResult } from "../../actors/scheduler/scheduler.ts";
import { initialState } from "../../actors/train.ts";
import { DEVICE_NAME } from "../../cli/node.ts";
import { type TransportChoice, transportsOf } from "../../cli/transports.ts";
import { DEFAULT_ADAMW } from "../../nn/optim/adamw.ts";
import { NodeRuntime, type Ref, type Transport } from "../../runtime/index.ts";
import { machineId } from "../../runtime/platform/machine.ts";
import { LineChild } from "../child.ts";
import { chainFeed, chainModel } from "./model.ts";
import { dealtPlan, type Pipeline } from "./plan.ts";
import type { KernelTimes } from "./times.ts";

/** What a device process is told. */
export interface PipelineDevice {
  /** Of the whole model. */
  readonly chunks: number;
  readonly times: KernelTimes;
  readonly transport: TransportChoice;
}

/** Plain text, on this machine. */
export function nodeTransports(transport: TransportChoice): Transport[] {
  const security = { token: undefined, certificate: undefined, coordinator: false, insecure: false };
  return transportsOf(security, transport);
}

export class PipelineCluster {
  private readonly children: readonly LineChild[];
  private readonly node: NodeRuntime;
  private readonly scheduler: Ref<Scheduler>;
  private done = 0;

  private constructor(children: readonly LineChild[], node: NodeRuntime, scheduler: Ref<Scheduler>) {
    this.children = children;
    this.node = node;
    this.scheduler = scheduler;
  }

  static async open(
    pipeline: Pipeline,
    times: KernelTimes,
    transport: TransportChoice = "auto",
  ): Promise<PipelineCluster> {
    const { stages, chunks, microBatches, schedule } = pipeline;
    const told: PipelineDevice = { chunks: stages * chunks, times, transport };
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
    const closing = async () => {
      await node.close();
      for (const child of children) await child.close();
    };
    try {
      const devices: Ref<Device>[] = [];
      for (const { greeting } of children) {
        const { id } = await node.connect(greeting);
        devices.push((await node.lookup<Device>(id, DEVICE_NAME))!);
      }
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
      return new PipelineCluster(children, node, scheduler);
    } catch (error) {
      await closing();
      throw error;
    }
  }

  /** Milliseconds of so many steps, and what the stages told of each. */
  async steps(count: number): Promise<(StepResult & { readonly ms: number })[]> {
    const measured: (StepResult & { readonly ms: number })[] = [];
    const last = this.done + count - 1;
    while (this.done <= last) {
      const began = performance.now();
      const result = await this.scheduler.ask.step(this.done++, last);
      measured.push({ ...result, ms: performance.now() - began });
    }
    return measured;
  }

  async close(): Promise<void> {
    await this.node.close();
    for (const child of this.children) await child.close();
  }
}
