/** What comes from the data source: once for a stage, however many of its chunks read it. */

import type { Tensor } from "../../protocols/tensor.ts";
import type { Inbox, Slip } from "../inbox.ts";

export class Supply {
  private readonly inbox: Inbox;
  /** How many chunks read each value. */
  private readonly readers: ReadonlyMap<string, number>;
  /** What has come for several of them, and how many have yet to take it. */
  private readonly shared = new Map<string, { readonly tensor: Promise<Tensor>; left: number }>();

  /** @param values names of what each chunk reads. */
  constructor(inbox: Inbox, values: readonly (readonly string[])[]) {
    this.inbox = inbox;
    const readers = new Map<string, number>();
    for (const name of values.flat()) readers.set(name, (readers.get(name) ?? 0) + 1);
    this.readers = readers;
  }

  /** A value of a micro-batch, as soon as it is there (to be read only); each chunk that reads it takes it once. */
  take(slip: Slip): Promise<Tensor> {
    const readers = this.readers.get(slip.value) ?? 1;
    if (readers === 1) return this.inbox.take(slip);
    const key = `${slip.phase}/${slip.step}/${slip.microBatch}/${slip.value}`;
    const shared = this.shared.get(key) ?? { tensor: this.inbox.take(slip), left: readers };
    shared.left--;
    if (shared.left === 0) this.shared.delete(key);
    else this.shared.set(key, shared);
    return shared.tensor;
  }
}
