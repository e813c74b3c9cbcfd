/**
 * A fault, as data: what is done to which device of a run, and at which point of its work. It is for finding out whether a
 * run survives, so it comes over a device where it computes, at an operation and not at a time: the same schedule of faults
 * is the same run, however fast the machine is.
 */

export const ACTIONS = ["kill", "stop", "hang", "slow", "cut"] as const;
/**
 * kill: the device is gone at once, without a word. stop: it stands still, its connections stay open. hang: it answers, but
 * no kernel of it ends any more. slow: its kernels take a number of times as long from here on. cut: it works on, and nothing
 * reaches it or comes from it any more.
 */
export type FaultAction = (typeof ACTIONS)[number];

export const PHASES = [
  ...(["forward", "backward", "send", "receive", "reduce"] as const),
  ...(["commit", "copy", "recovery"] as const),
] as const;
/**
 * What a device is about to do. Of a micro-batch: its forward or backward pass, or to send or receive what goes between
 * stages. Of a step: to add gradients up with others, to update the parameters, to give copies of what the step has left to
 * others. And, in a recovery, to fetch what it is to hold.
 */
export type Phase = (typeof PHASES)[number];

/** Phases that every micro-batch has of its own. */
export const MICRO_BATCH_PHASES: readonly Phase[] = ["forward", "backward", "send", "receive"];

export interface Fault {
  readonly action: FaultAction;
  /** The device's name. */
  readonly device: string;
  /** Of `slow`: above 1. */
  readonly factor?: number;
  /**
   * Counted from 0. It comes once, at the first operation that fits in this step, or behind it where there is none: not
   * every step is copied, and recoveries are rare.
   */
  readonly step: number;
  /** Counted from 0; any when left out. */
  readonly microBatch?: number;
  /** Any when left out, but what goes on beside steps: copies and recoveries. */
  readonly phase?: Phase;
  /**
   * Milliseconds after which it is over: who stood still goes on, who was cut off can be reached, and who was killed is for
   * whoever started it to start again. It lasts when left out.
   */
  readonly forMs?: number;
}

/** Whether both are the same to whom they come over. */
export function isSame(a: Fault, b: Fault): boolean {
  const fields = ["action", "device", "factor", "step", "microBatch", "phase", "forMs"] as const;
  return fields.every((field) => a[field] === b[field]);
}

/** An operation that is about to be carried out. */
export interface Moment {
  /** A recovery's is the one that the run goes on with. */
  readonly step: number;
  /** A pass may be forward and backward in one. */
  readonly phases: readonly Phase[];
  /** Left out where it is of no micro-batch. */
  readonly microBatch?: number;
}

/** Whether a fault comes at this moment. */
export function comesAt(fault: Fault, { step, phases, microBatch }: Moment): boolean {
  if (step < fault.step) return false;
  if (fault.microBatch !== undefined && fault.microBatch !== microBatch) return false;
  if (fault.phase !== undefined) return phases.includes(fault.phase);
  return !phases.includes("copy") && !phases.includes("recovery");
}
