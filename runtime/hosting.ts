/**
 * Actors a node starts for others: of the classes it was given for that and no other, after it has looked at the
 * arguments if the class asks for it, and for no longer than their owner lives, if they have one.
 *
 * Who owns an actor another node has asked for? By default nobody: it lives on the node that hosts it until it
 * ends or is stopped, whatever becomes of the asker, and can be found by its name. With an owner it is stopped
 * when that actor ends or the link to that actor's node is lost; the owner "node" is the asking node itself. An
 * actor whose asker is lost before it could be told of it is stopped too, unless it has a name to be found by.
 */

import type { Actor, ActorClass } from "./actor.ts";
import { asError, RuntimeError } from "./errors.ts";
import type { Log } from "./log.ts";
import type { Peer, PeerInfo } from "./peer.ts";
import { ActorRef, type Ref, targetOf } from "./ref.ts";

/** A class that other nodes may start here, with a look at who asks and for what. */
export interface HostedClass {
  /** What is started when `admit` has not thrown. */
  readonly actor: ActorClass;
  /** Throws what is wrong with the arguments or the asker, which the asker gets as the cause of SPAWN_REFUSED. */
  admit(args: readonly unknown[], asker: PeerInfo): void;
}

/** Classes that other nodes may start, by the name they ask for. */
export type HostedClasses = Readonly<Record<string, ActorClass | HostedClass>>;

/** Whose end is the end of an actor that was started on another node. */
export type Owner = Ref<any> | "node";

/** What hosting needs of its node. */
export interface HostingHost {
  readonly name: string;
  readonly log: Log;
  /** @throws RuntimeError SPAWN_FAILED, NAME_TAKEN, NODE_CLOSED. */
  spawn(actor: ActorClass<Actor>, args: readonly unknown[], name: string | undefined): Promise<Ref<any>>;
}

export interface HostedSpawn {
  readonly className: string;
  readonly args: readonly unknown[];
  readonly name: string | undefined;
  readonly owner: Owner | undefined;
}

export class Hosting {
  private readonly host: HostingHost;
  private readonly hosted: HostedClasses;

  constructor(host: HostingHost, hosted: HostedClasses) {
    this.host = host;
    this.hosted = hosted;
  }

  /**
   * @param asker the peer that asks; without one it is this node.
   * @throws RuntimeError UNKNOWN_CLASS, SPAWN_REFUSED, SPAWN_FAILED (with their causes), NAME_TAKEN, NODE_CLOSED.
   */
  async spawn({ className, args, name, owner }: HostedSpawn, asker?: Peer): Promise<Ref<any>> {
    const entry = Object.hasOwn(this.hosted, className) ? this.hosted[className] : undefined;
    if (!entry) {
      const known = Object.keys(this.hosted).join(", ") || "none";
      throw new RuntimeError("UNKNOWN_CLASS", `${this.host.name} hosts no ${className}; it hosts ${known}`);
    }
    if (asker && typeof entry !== "function") this.admit(className, entry, args, asker.info);
    const ref = await this.host.spawn(classOf(entry), args, name);
    if (owner instanceof ActorRef)
      this.bind(
        ref,
        targetOf(owner).watch(() => this.end(ref)),
      );
    else if (asker && (owner === "node" || name === undefined)) this.bindToPeer(ref, asker, owner === "node");
    return ref;
  }

  private admit(className: string, entry: HostedClass, args: readonly unknown[], asker: PeerInfo): void {
    try {
      entry.admit(args, asker);
    } catch (thrown) {
      const cause = asError(thrown);
      const message = `${this.host.name} does not start a ${className} for ${asker.name} (${asker.id}): ${cause.message}`;
      throw new RuntimeError("SPAWN_REFUSED", message, { cause });
    }
  }

  private bindToPeer(ref: Ref<any>, asker: Peer, lasting: boolean): void {
    if (asker.isLost) this.end(ref);
    else if (lasting)
      this.bind(
        ref,
        asker.onLost(() => this.end(ref)),
      );
  }

  /** When the actor has ended its owner need not be watched any more. */
  private bind(ref: Ref<any>, unwatch: () => void): void {
    targetOf(ref).watch(unwatch);
  }

  private end(ref: Ref<any>): void {
    targetOf(ref)
      .end(false)
      .catch((error) =>
        this.host.log({ level: "error", message: `cannot stop ${ref}`, error: asError(error) }),
      );
  }
}

function classOf(entry: ActorClass | HostedClass): ActorClass {
  return typeof entry === "function" ? entry : entry.actor;
}
