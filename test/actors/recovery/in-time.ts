/** Work in a cluster whose clock is virtual: time goes by until it is done. */

import { expect } from "bun:test";
import type { VirtualClock } from "../../../runtime/clock.ts";

/** Lets time go by until `work` is settled, an hour at most. */
export async function inTime<T>(clock: VirtualClock, work: Promise<T>): Promise<T> {
  let settled = false;
  const end = () => {
    settled = true;
  };
  work.then(end, end);
  await clock.advance(3_600_000, () => settled);
  expect(settled).toBe(true);
  return work;
}
