/** What a device says that it has of a run: plain data and refs, for a coordinator that has not seen it before. */

import type { Ref } from "../../runtime/index.ts";
import type { Holding } from "../recovery/ledger.ts";
import type { Replica } from "../recovery/replica.ts";
import type { Stage } from "../stage.ts";

/** Complete copies of what one worker held. */
export interface KeptCopies {
  readonly holding: Holding;
  /** Steps that left what was copied. */
  readonly steps: readonly number[];
}

export interface KeptOnDevice {
  /** Stages of which nothing is left but copies of what they held. */
  readonly stages: readonly { readonly stage: Ref<Stage>; readonly kept: KeptCopies }[];
  /** Copies of what others held. */
  readonly replicas: readonly { readonly replica: Ref<Replica>; readonly kept: readonly KeptCopies[] }[];
}
