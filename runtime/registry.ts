/**
 * Names of a node's actors. A name belongs to an actor, not to one life of it: it survives the actor's restarts
 * and is free again once the actor is gone for good.
 */

import { RuntimeError } from "./errors.ts";

export class Registry<T> {
  private readonly names = new Map<string, T>();

  /** @throws RuntimeError NAME_TAKEN. */
  register(name: string, item: T): void {
    if (this.names.has(name))
      throw new RuntimeError("NAME_TAKEN", `the name "${name}" belongs to another actor`);
    this.names.set(name, item);
  }

  /** Frees the name if it still belongs to `item`. */
  release(name: string, item: T): void {
    if (this.names.get(name) === item) this.names.delete(name);
  }

  /** All names, in the order in which they were registered. */
  list(): string[] {
    return [...this.names.keys()];
  }

  find(name: string): T | undefined {
    return this.names.get(name);
  }
}
