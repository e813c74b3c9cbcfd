/** Names of the files of a checkpoint. Shards are named as those of Hugging Face are. */

export const STATE = "state.json";
export const ONNX = "model.onnx";
export const INDEX = "model.safetensors.index.json";

/** What a shard has: parameters and statistics, or the optimiser's state. */
export type ShardKind = "model" | "optimizer";

/** @param index from 0. */
export function shardName(kind: ShardKind, index: number, count: number): string {
  const digits = (n: number) => `${n}`.padStart(5, "0");
  const which = count === 1 ? "" : `-${digits(index + 1)}-of-${digits(count)}`;
  return `${kind}${which}.safetensors`;
}

const SHARD = /^(model|optimizer)(-\d{5}-of-\d{5})?\.safetensors$/;

/** Those of `names` that are shards of a kind, in their order. */
export function shardsOf(kind: ShardKind, names: readonly string[]): string[] {
  return names.filter((name) => SHARD.exec(name)?.[1] === kind).sort();
}

/** Whether a file of this name may be part of a checkpoint. */
export function isPart(name: string): boolean {
  return [STATE, ONNX, INDEX].includes(name) || SHARD.test(name);
}

/**
 * What a checkpoint is called among others. Where several coordinators may lead the run, the name has the epoch of the one who
 * wrote it: what one sends that was held up is nothing of what another has written since.
 * @param epoch 0 where nobody else may lead.
 */
export function checkpointName(step: number, epoch: number): string {
  return epoch > 0 ? `step-${step}.epoch-${epoch}` : `step-${step}`;
}

const NAMED = /step-(\d+)(?:\.epoch-(\d+))?$/;

/** The step that the end of a path names; null where it names none. */
export function stepOf(path: string): number | null {
  const digits = NAMED.exec(path)?.[1];
  return digits === undefined ? null : Number(digits);
}

/** The epoch that the end of a path names; 0 where it names none. */
export function epochOf(path: string): number {
  return Number(NAMED.exec(path)?.[2] ?? 0);
}
