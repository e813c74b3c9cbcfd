/**
 * What a cell's actor can do beside computing: its context, made once per life and good for that life alone. Code of
 * a life that is over may still run, after something it has waited for: it can start no child any more (ACTOR_DOWN),
 * and its monitors, links and stops mean nothing, least of all to the next life.
 */

import type { Actor, ActorClass, ActorContext, SupervisedChild, SuperviseOptions } from "./actor.ts";
import type { Cell } from "./cell.ts";
import { RuntimeError } from "./errors.ts";
import { linksOf } from "./links.ts";
import type { NodeRuntime } from "./node.ts";
import type { SpawnOptions } from "./node_options.ts";
import { type ActorRef, type Ref, targetOf } from "./ref.ts";

/** What a context needs of its node. */
export interface ContextHost {
  readonly node: NodeRuntime;
  /** `parent` is alive. @throws RuntimeError NAME_TAKEN, NODE_CLOSED. */
  createCell(
    parent: Cell,
    actor: ActorClass,
    args: readonly unknown[],
    options: SpawnOptions & Partial<SuperviseOptions>,
  ): Cell;
}

type DropFirst<F> = F extends (first: any, ...rest: infer Rest) => infer R ? (...rest: Rest) => R : never;

export function createContext(host: ContextHost, cell: Cell): ActorContext {
  const { node } = host;
  const { life } = cell;
  const isOver = () => cell.life !== life || !cell.alive;
  const createChild: DropFirst<ContextHost["createCell"]> = (actor, args, options) => {
    if (!isOver()) return host.createCell(cell, actor, args, options);
    throw new RuntimeError("ACTOR_DOWN", `${cell.label} is gone and can have no children`);
  };
  const spawnChild = async (actor: ActorClass, args: readonly unknown[], options: SpawnOptions) => {
    const child = createChild(actor, args, options);
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
    stop: ({ drain } = {}) => {
      if (!isOver()) void cell.end(false, drain);
    },
    monitor: (ref) => {
      if (isOver()) return { ref, cancel: () => {} };
      let cancelled = false;
      const unwatch = targetOf(ref).watch((reason) => {
        cell.cleanups.delete(cancel);
        // It may be taken back between the end and the signal.
        cell.signal((actor: Actor) => (cancelled ? undefined : actor.onDown({ ref, reason })));
      });
      const cancel = () => {
        cancelled = true;
        if (!isOver()) cell.cleanups.delete(cancel);
        unwatch();
      };
      cell.cleanups.add(cancel);
      return { ref, cancel };
    },
    demonitor: (monitor) => monitor.cancel(),
    link: (ref) => {
      if (!isOver()) linksOf(cell).link(ref as ActorRef);
    },
    unlink: (ref) => {
      if (!isOver()) linksOf(cell).unlink(ref as ActorRef);
    },
    spawnLinked: async (actor, args, options = {}): Promise<Ref<any>> => {
      const child = await spawnChild(actor as ActorClass, args, options);
      if (!isOver()) linksOf(cell).link(child.ref);
      return child.ref;
    },
    supervise: (actor, args, options) => supervised(createChild(actor, args, options)),
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
    retire: () => {
      if (cell.alive) void cell.stopQuietly(0).then(() => cell.retire());
      else cell.retire();
    },
  };
}
