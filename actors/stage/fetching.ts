/** Giving a stage what it is to hold, from those who have copies of it: from each directly, and from itself without a message. */

import type { Tensor } from "../../protocols/tensor.ts";
import type { Ref } from "../../runtime/index.ts";
import type { Copies } from "../recovery/copies.ts";
import { type Fetch, recalled } from "../recovery/replica.ts";
import type { Stage } from "../stage.ts";
import { bytesOf } from "./spec.ts";

type Values = Readonly<Record<string, Tensor>>;

/** Who is given something. */
export interface Fetching {
  readonly self: Ref<Stage>;
  /** Of the node that it is on. */
  readonly node: string;
  /** Its own. */
  readonly copies: Copies;
  load(values: Values): Promise<void>;
}

/** @param step of the copies. @returns bytes that came from other devices. */
export async function fetchFrom(
  from: readonly Fetch[],
  step: number,
  { self, node, copies, load }: Fetching,
): Promise<number> {
  let bytes = 0;
  await Promise.all(
    from.map(async ({ source, worker, names }) => {
      const isOwn = source.key === self.key;
      const values = isOwn
        ? recalled(copies, worker, step, names)
        : await source.ask.recall(worker, step, names);
      await load(values);
      if (source.address.node !== node) bytes += bytesOf(values);
    }),
  );
  return bytes;
}
