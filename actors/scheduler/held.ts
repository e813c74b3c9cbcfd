import type { Ref } from "../../runtime/index.ts";
import type { Holding } from "../recovery/ledger.ts";
import type { Stage } from "../stage.ts";

/** A worker, where it is and what it holds. */
export interface Held {
  readonly holding: Holding;
  /** Device id. */
  readonly device: string;
  readonly stage: Ref<Stage>;
  /** Of a copy of what it holds. */
  readonly bytes: number;
  /** Of the gradients that a copy can be made by from the one before; null where it cannot, or is not smaller for it. */
  readonly gradientBytes: number | null;
  /** Whether it is still to be given that. */
  readonly isLate: boolean;
}
