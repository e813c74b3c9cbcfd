/** What a cell's actor can do beside computing: its context, made once per life. */

import type { Actor, ActorClass, ActorContext, SupervisedChild, SuperviseOptions } from "./actor.ts";
import type { Cell } from "./cell.ts";
import { linksOf } from "./links.ts";
import type { NodeRuntime, SpawnOptions } from "./node.ts";
import { type ActorRef, type Ref, targetOf } from "./ref.ts";

/** What a context needs of its node. */
export interface ContextHost {
  readonly node: NodeRuntime;
  /** @throws RuntimeError NAME_TAKEN, NODE_CLOSED. */
  createCell(
    parent: Cell,
    actor: ActorClass,
    args: readonly unknown[],
    options: SpawnOptions & Partial<SuperviseOptions>,
  ): Cell;
}

export function createContext(host: ContextHost, cell: Cell): ActorContext {
  const { node } = host;
  const spawnChild = async (actor: ActorClass, args: readonly unknown[], options: SpawnOptions) => {
    const child = host.createCell(cell, actor, args, options);
    const starting = child.launch();
    if (starting) await starting;
    return child;
  };
  return {
    self: cell.ref,
    node,
    clock: node.clock,
    random: node.random,
    spawn: async (actor, args, options = {}): Promise<Ref<any>> =>
      (await spawnChild(actor as ActorClass, args, options)).ref,
    stop: ({ drain } = {}) => void cell.end(false, drain),
    monitor: (ref) => {
      const cancelWatch = targetOf(ref).watch((reason) => {
        cell.cleanups.delete(cancel);
        cell.signal((actor: Actor) => actor.onDown({ ref, reason }));
      });
      const cancel = () => {
        cell.cleanups.delete(cancel);
        cancelWatch();
      };
      cell.cleanups.add(cancel);
      return { ref, cancel };
    },
    demonitor: (monitor) => monitor.cancel(),
    link: (ref) => linksOf(cell).link(ref as ActorRef),
    unlink: (ref) => linksOf(cell).unlink(ref as ActorRef),
    spawnLinked: async (actor, args, options = {}): Promise<Ref<any>> => {
      const child = await spawnChild(actor as ActorClass, args, options);
      linksOf(cell).link(child.ref);
      return child.ref;
    },
    supervise: (actor, args, options) => supervised(host.createCell(cell, actor, args, options)),
  };
}

function supervised(cell: Cell): SupervisedChild {
  return {
    ref: cell.ref,
    get alive() {
      return cell.alive;
    },
    get retired() {
      return cell.retired;
    },
    start: () => cell.start(),
    stop: (shutdownMs) => cell.stopQuietly(shutdownMs),
    retire: () => cell.retire(),
  };
}
