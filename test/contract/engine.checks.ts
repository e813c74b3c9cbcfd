/** What the parts of the engine contract check with. */

import { expect } from "bun:test";
import type { Engine } from "../../nn/engine/engine.ts";

/** The usage of an engine that holds nothing. */
export const NOTHING = { tensors: 0, tensorBytes: 0, executables: 0, bindings: 0 };

/** The reason of a rejection. */
export function failureOf(promise: Promise<unknown>): Promise<Error> {
  return promise.then(
    () => {
      throw new Error("expected a rejection");
    },
    (reason) => reason,
  );
}

/** Releases, and expects nothing to be left. */
export function releaseAll(engine: Engine, owned: readonly { release(): void }[]): void {
  for (const one of owned) one.release();
  expect(engine.usage()).toEqual(NOTHING);
}
