/**
 * An actor of another node as a child in a supervision tree. This actor stands for it: it starts it there and owns
 * it, crashes when it crashes or its node is lost, stops when it stops, and takes it along when it ends itself. So
 * its supervisor decides about both, with the strategy and budget it has for any other child:
 *
 *     child(RemoteChild, ["phone-1a2b", "Camera", [{ width: 640 }]], { name: "camera" })
 *
 * Started again, it is started on the same node, which is connected to again if need be; a child that should move
 * to another node is another child. Messages go to the actor itself, by the ref that `ref` gives; after a restart
 * that is another one.
 */

import { Actor } from "./actor.ts";
import { ActorFailure } from "./errors.ts";
import type { Down, DownReason } from "./monitor.ts";
import type { Ref } from "./ref.ts";

/** Stands in a supervision tree for an actor of another node. */
export class RemoteChild<A = any> extends Actor {
  readonly #node: string;
  readonly #className: string;
  readonly #args: readonly unknown[];
  #ref: Ref<A> | undefined;

  /** As `spawnOn`. A name given to the remote actor would be taken still when it is started again; it has none. */
  constructor(node: string, className: string, args: readonly unknown[]) {
    super();
    this.#node = node;
    this.#className = className;
    this.#args = args;
  }

  /** Throws what `spawnOn` throws: the cause of this child's SPAWN_FAILED. */
  override async onStart(): Promise<void> {
    const { node, self } = this.context;
    this.#ref = await node.spawnOn<A>(this.#node, this.#className, this.#args, { owner: self });
    this.context.monitor(this.#ref);
  }

  /** The runtime calls it when the actor it stands for is gone: it ends the same way. */
  override onDown({ ref, reason }: Down): void {
    if (reason.code === "normal") this.context.stop();
    else throw new ActorFailure(`${ref} is gone: ${reason.message}`, { cause: reason.error });
  }

  /** Asked to stop, it waits for the actor it stands for; otherwise that is gone, or ends for want of an owner. */
  override async onStop({ code }: DownReason): Promise<void> {
    if (code === "normal" && this.#ref) await this.context.node.stop(this.#ref);
  }

  /** The actor on the other node. */
  async ref(): Promise<Ref<A>> {
    return this.#ref!;
  }
}
