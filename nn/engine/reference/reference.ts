/**
 * The reference engine: plain TypeScript, in the caller's thread, deterministic, small and slow. It says what an
 * operator means, and it computes in simulated worlds, where nothing may depend on threads or real time.
 */

import { Tensor } from "../../../protocols/tensor.ts";
import { DTYPES } from "../dtypes.ts";
import type { Engine } from "../engine.ts";
import { HostEngine } from "../host.ts";
import { ReferenceBackend } from "./backend.ts";

/** `now` reads milliseconds for the times that runs report; without it they report zero. */
export function createReferenceEngine(now: () => number = () => 0): Engine {
  return new HostEngine({
    name: "reference",
    backend: new ReferenceBackend(now),
    allocator: (dtype, shape) => ({ tensor: Tensor.zeros(dtype, shape), free: () => {} }),
    dtypes: DTYPES,
  });
}
