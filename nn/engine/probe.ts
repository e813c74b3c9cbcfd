/** What an engine can do on this device, and why one cannot. */

import type { DType } from "../../protocols/tensor.ts";

export interface Capabilities {
  /** Version of the runtime underneath. */
  readonly version: string;
  /**
   * Element types that its tensors may have. Not every operator takes all of them; a graph with one that does not
   * is refused when it is compiled, by the node's name.
   */
  readonly dtypes: readonly DType[];
  /** Threads that it is worth giving it: as many as the device has processors, 1 where it uses one whatever is asked. */
  readonly threads: number;
  /** What computes, as its maker calls it. */
  readonly device: string;
  /** Where tensors are: the host's memory, WebAssembly's heap (host memory, at most 4 GiB), or the device's own. */
  readonly memory: "host" | "heap" | "device";
}

/** Why an engine does not work here, in a few words. */
export interface Missing {
  readonly missing: string;
}

export type Probe = Capabilities | Missing;

/** Processors that this program may use; at least 1. */
export function processors(): number {
  return Math.max(1, globalThis.navigator?.hardwareConcurrency ?? 1);
}
