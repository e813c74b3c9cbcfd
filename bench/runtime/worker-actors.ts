/** The actor in a thread of its own. */

import type { Tensor } from "../../protocols/index.ts";
import { Actor, type Ref, workerNode } from "../../runtime/index.ts";

/** Gets the tensor back. */
export interface Catcher {
  caught(tensor: Tensor): void;
}

export class Thrower extends Actor {
  #to: Ref<Catcher> | undefined;
  to(catcher: Ref<Catcher>): boolean {
    this.#to = catcher;
    return true;
  }
  thrown(tensor: Tensor): void {
    this.#to!.tell.caught(tensor);
  }
  answer(value: number): number {
    return value;
  }
}

await workerNode({ actors: { Thrower } });
