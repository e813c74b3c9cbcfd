/**
 * Refs across nodes: a ref travels inside a message as its address and becomes a ref again where it arrives. Back
 * on its own node it is the actor itself.
 */

import type { ActorAddress } from "../protocols/messages.ts";
import type { ActorClass } from "./actor.ts";
import type { Cell } from "./cell.ts";
import type { DeadLetters } from "./deadletters.ts";
import { type MethodTable, methodsOf, unknownMethods } from "./methods.ts";
import { ActorRef, type Ref } from "./ref.ts";
import { GoneTarget, type RemoteHost, RemoteTarget } from "./remote.ts";

/** What references need of their node. */
export interface ReferencesHost {
  readonly id: string;
  readonly incarnation: number;
  readonly deadLetters: DeadLetters;
  readonly remote: RemoteHost;
  readonly classes: Readonly<Record<string, ActorClass>>;
  readonly askTimeoutMs: number | undefined;
  cell(id: number): Cell | undefined;
  /** Where a node can be connected to, as far as this one has seen. */
  addressesOf(node: string): readonly string[] | undefined;
}

export class References {
  private readonly host: ReferencesHost;
  private readonly foreignTables = new Map<string, MethodTable>();

  constructor(host: ReferencesHost) {
    this.host = host;
  }

  /** Plain data that stands for a ref; undefined if `value` is none. */
  encode(value: object): unknown[] | undefined {
    if (!(value instanceof ActorRef)) return undefined;
    const { node, incarnation, actor, className, addresses } = value.address;
    return [node, incarnation, actor, className, addresses];
  }

  /** The ref an address stands for: the actor itself if it lives here. @throws TypeError if it is malformed. */
  decode(data: unknown): Ref<any> {
    const [node, incarnation, actor, className, addresses] = Array.isArray(data) ? data : [];
    if (typeof node !== "string" || typeof className !== "string" || !Array.isArray(addresses)) {
      throw new TypeError("a ref in a message is malformed");
    }
    const { host } = this;
    const known = host.addressesOf(node) ?? addresses;
    const address: ActorAddress = { node, incarnation, actor, className, addresses: known };
    if (node === host.id) {
      const cell = incarnation === host.incarnation ? host.cell(actor) : undefined;
      if (cell) return cell.ref;
      const gone = new GoneTarget(host, `${className}#${actor} on ${node}`, "it has ended");
      return new ActorRef(address, gone, this.tableFor(className), host.askTimeoutMs);
    }
    const target = new RemoteTarget(host.remote, address);
    return new ActorRef(address, target, this.tableFor(className), host.askTimeoutMs);
  }

  private tableFor(className: string): MethodTable {
    const known = Object.values(this.host.classes).find((actor) => actor.name === className);
    if (known) return methodsOf(known);
    let table = this.foreignTables.get(className);
    if (!table) {
      table = unknownMethods(className);
      this.foreignTables.set(className, table);
    }
    return table;
  }
}
