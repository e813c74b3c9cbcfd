/** Who reads which of the data source's values: the members whose chunks have them as inputs. */

import type { Ref } from "../../runtime/index.ts";
import type { Destination, Reader } from "../data/source.ts";
import type { Stage } from "../stage.ts";
import type { Part } from "./parts.ts";
import type { Worker } from "./plan.ts";
import { isDealt } from "./routes.ts";

/** @param stages by worker. @param parts by position. */
export function readersOf(
  workers: readonly Worker[],
  stages: readonly Ref<Stage>[],
  parts: readonly Part[],
): Destination["readers"] {
  const readers: Record<string, Reader[]> = {};
  for (const { worker, stage, member, positions } of workers) {
    const microBatches = isDealt(stage.sharing) ? member.microBatches : null;
    const names = new Set(positions.flatMap((position) => parts[position]!.data));
    for (const name of names) {
      readers[name] ??= [];
      readers[name].push({ stage: stages[worker]!, microBatches });
    }
  }
  return readers;
}
