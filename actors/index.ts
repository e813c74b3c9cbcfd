/**
 * Edge training as actors: a run's composition root, the device that hosts its stages, and the data between them.
 *
 * A run is: a `NodeRuntime`, a `Device` on each node → `train` → checkpoints and events.
 */

export { type DType, type Shape, Tensor } from "../protocols/tensor.ts";
export {
  type Checkpoint,
  type Damage,
  readCheckpoint,
  weightsSha256,
  writeCheckpoint,
} from "./checkpoint.ts";
export { CheckpointError } from "./checkpoint-state.ts";
export { type Augmentations, NO_AUGMENTATION } from "./data/augment.ts";
export { CorpusError, readDefaultText, readText, splitText } from "./data/corpus.ts";
export { DataError } from "./data/error.ts";
export type { Feed } from "./data/feed.ts";
export { ImageFeed } from "./data/images.ts";
export { type Data, readData } from "./data/read.ts";
export { TableFeed } from "./data/table.ts";
export { TextFeed } from "./data/text.ts";
export { Device, type DeviceDescription, type DeviceUsage } from "./device.ts";
// Profiles: what devices and lines take.
export {
  correctedProfile,
  type Drift,
  DriftWatch,
  driftText,
  hasDrifted,
  type WatchedWorker,
} from "./drift.ts";
export { type EnergyMeter, type EnergyReading, openMeter, readingText } from "./energy/meter.ts";
export { type DevicePower, type DeviceWork, energyOf, joulesOf, type StepEnergy } from "./energy/model.ts";
export { type GenerateRequest, generate } from "./generate.ts";
// Plans: choosing one, and what it would take.
export {
  imaginedRequest,
  measuredRequest,
  type Planned,
  type PlanSubject,
  planned,
} from "./plan.ts";
export { type ClusterProfile, type ClusterRequest, profileCluster } from "./profile.ts";
export { ProfileCache } from "./profile-cache.ts";
export { RunStopped } from "./run-stopped.ts";
export type { Sampling } from "./sample.ts";
export { type Cluster, ClusterError, readCluster } from "./scheduler/cluster.ts";
export { clusterProfile } from "./scheduler/cluster-profile.ts";
export { DEVICE_CLASSES, type DeviceClass } from "./scheduler/device-classes.ts";
export { DeviceFailed } from "./scheduler/device-failed.ts";
export { imaginedSegments } from "./scheduler/imagine.ts";
export {
  type Plan,
  planPrograms,
  SHARINGS,
  type Sharing,
  STRATEGIES,
  type Strategy,
  workersOf,
} from "./scheduler/plan.ts";
export { planCost } from "./scheduler/plan-cost.ts";
export { PlanError } from "./scheduler/plan-error.ts";
export { planText, readPlan } from "./scheduler/plan-json.ts";
export { makePlan, type PlanOptions, type PlanRequest } from "./scheduler/planner.ts";
export { Routes } from "./scheduler/routes.ts";
export { isAsynchronous, SCHEDULES, type ScheduleName } from "./scheduler/schedule.ts";
export { DeviceLost } from "./scheduler/scheduler.ts";
export { type ChurnRun, simulateChurn } from "./scheduler/simulate/churn.ts";
export { churnEvents } from "./scheduler/simulate/churn-events.ts";
export { type Prediction, predict, type Simulation, simulate } from "./scheduler/simulate.ts";
export { chromeTrace, compareTrace, gantt } from "./scheduler/timeline.ts";
export { type ModelSpec, openTask } from "./tasks/open.ts";
export type { Task, TaskOptions } from "./tasks/task.ts";
export {
  DivergedError,
  type PreparedRun,
  prepare,
  type TrainEvent,
  type TrainOptions,
  train,
  type World,
} from "./train.ts";
