/**
 * A training run that goes on step by step, when it is told to: real device processes over TCP, the same actors and
 * the same options as `troupe train`, without its checkpoints. Several can be open and take turns.
 */

import { DataSource } from "../actors/data/source.ts";
import { type Plan, planPrograms, workersOf } from "../actors/scheduler/plan.ts";
import type { StageProgram } from "../actors/scheduler/program.ts";
import { Scheduler, type StepResult } from "../actors/scheduler/scheduler.ts";
import { initialState, type PreparedRun, prepare } from "../actors/train.ts";
import { Devices } from "../cli/devices.ts";
import { parseOptions } from "../cli/options.ts";
import { TRAIN_OPTIONS, type TrainSettings, trainSettings } from "../cli/train-options.ts";
import { type Ref, systemClock } from "../runtime/index.ts";
import { files } from "../runtime/platform/files.ts";
import { machine } from "../runtime/platform/machine.ts";

export interface MeasuredStep extends StepResult {
  readonly ms: number;
}

export class Deployment {
  readonly plan: Plan;
  readonly programs: readonly StageProgram[];
  private readonly devices: Devices;
  private readonly scheduler: Ref<Scheduler>;
  private done = 0;

  private constructor(devices: Devices, scheduler: Ref<Scheduler>, plan: Plan) {
    this.devices = devices;
    this.scheduler = scheduler;
    this.plan = plan;
    this.programs = planPrograms(plan);
  }

  /** @param args options of `troupe train`. */
  static async open(args: readonly string[]): Promise<Deployment> {
    const options = parseOptions("train", TRAIN_OPTIONS, args);
    const settings = await trainSettings(options, files, systemClock.now(), machine().memoryBytes);
    const prepared = await prepare(settings.run, files);
    const devices = new Devices(settings, {
      joined: () => {},
      left: () => {},
      said: (name, line) => process.stderr.write(`${name}: ${line}\n`),
    });
    try {
      await devices.open({ devices: settings.devices });
      return await deploy(settings, prepared, devices);
    } catch (error) {
      await devices.close();
      throw error;
    }

    async function deploy({ run }: TrainSettings, { task }: PreparedRun, { node, joined }: Devices) {
      const { microBatches, seed, optimizer, strategy, schedule, recompute } = run;
      const data = await node.spawn(DataSource, [task.feed]);
      const { model } = task;
      const scheduling = { model, seed, microBatches, optimizer, strategy, schedule, recompute };
      const scheduler = await node.spawn(Scheduler, [joined.map(({ ref }) => ref), data, scheduling]);
      const plan = await scheduler.ask.plan();
      await scheduler.ask.deploy(await initialState(task.model, seed));
      return new Deployment(devices, scheduler, plan);
    }
  }

  /** Process ids of the devices, in the order of the stages. */
  get pids(): readonly number[] {
    return workersOf(this.plan).map(({ member: { device } }) => this.devices.joined[Number(device)]!.pid!);
  }

  /**
   * Trains so many steps. The data of each travels while the one before it runs, as in a whole run, but not from
   * one call to the next: between calls the devices rest.
   */
  async steps(count: number): Promise<MeasuredStep[]> {
    const measured: MeasuredStep[] = [];
    const last = this.done + count - 1;
    while (this.done <= last) {
      const began = performance.now();
      const result = await this.scheduler.ask.step(this.done++, last);
      measured.push({ ...result, ms: performance.now() - began });
    }
    return measured;
  }

  async close(): Promise<void> {
    await this.devices.close();
  }
}
