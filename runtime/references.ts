/**
 * Refs across nodes: a ref travels inside a message as its address and becomes a ref again where it arrives. Back
 * on its own node it is the actor itself.
 *
 * An actor gets its address when its ref first leaves the node (or is compared by key). The address holds a number
 * of 53 random bits, so an address is also the permission to use it: a peer reaches only what it was given, found
 * by name, or started. An actor whose ref never left cannot be reached from outside at all.
 */

import type { ActorAddress } from "../protocols/messages.ts";
import type { DeadLetters } from "./deadletters.ts";
import { RuntimeError } from "./errors.ts";
import { type MethodTable, tableOf, unknownMethods } from "./methods.ts";
import { Facet, type Served } from "./narrow.ts";
import type { Random } from "./random.ts";
import { ActorRef, type Exporter, type Ref } from "./ref.ts";
import { GoneTarget, type RemoteHost, RemoteTarget } from "./remote.ts";

/** What references need of their node. */
export interface ReferencesHost {
  readonly id: string;
  readonly incarnation: number;
  readonly random: Random;
  readonly deadLetters: DeadLetters;
  readonly remote: RemoteHost;
  readonly askTimeoutMs: number | undefined;
  /** Where this node can be connected to. */
  readonly addresses: readonly string[];
  /** Where a node can be connected to, as far as this one has seen. */
  addressesOf(node: string): readonly string[] | undefined;
}

/** Tables made for classes of other nodes that are kept; a peer that invents names must not fill the memory. */
const FOREIGN_TABLES = 1024;

export class References implements Exporter {
  private readonly host: ReferencesHost;
  private readonly exported = new Map<number, ActorRef>();
  /** Narrowed refs of an actor, by their methods. */
  private readonly narrowed = new WeakMap<ActorRef, Map<string, ActorRef>>();
  private readonly foreignTables = new Map<string, MethodTable>();

  constructor(host: ReferencesHost) {
    this.host = host;
  }

  /** The ref of an actor of this node. */
  create(target: Served, table: MethodTable): ActorRef {
    return new ActorRef(this, target, table, this.host.askTimeoutMs);
  }

  export(ref: ActorRef): ActorAddress {
    const { id, incarnation, addresses, random } = this.host;
    let actor: number;
    do actor = capability(random.bytes(8));
    while (this.exported.has(actor));
    // Nobody would ever release the address of an actor that is gone already.
    if (!(ref.target as Served).retired) this.exported.set(actor, ref);
    const { className } = ref.table;
    const methods = ref.target instanceof Facet ? ref.target.methods : undefined;
    return { node: id, incarnation, actor, className, addresses, methods };
  }

  narrow(ref: ActorRef, methods: readonly string[]): ActorRef {
    const chosen = [...new Set(methods)].sort();
    const absent = chosen.filter((name) => !ref.table.methods.has(name));
    if (absent.length > 0) {
      throw new RuntimeError("UNKNOWN_METHOD", `${ref} has no ${absent.join(", ")} to narrow it to`);
    }
    const known = this.narrowed.get(ref) ?? new Map<string, ActorRef>();
    this.narrowed.set(ref, known);
    const key = JSON.stringify(chosen);
    let found = known.get(key);
    if (!found) {
      const table = tableOf(
        ref.table.className,
        new Map(chosen.map((name) => [name, ref.table.methods.get(name)!])),
      );
      found = this.create(new Facet(ref.target as Served, chosen, this.host.deadLetters), table);
      known.set(key, found);
    }
    return found;
  }

  /** The actor, or part of one, that was exported under this number. */
  served(actor: number): Served | undefined {
    return this.exported.get(actor)?.target as Served | undefined;
  }

  /** The actor is gone: its addresses lead nowhere. */
  release(ref: ActorRef): void {
    if (ref.exported) this.exported.delete(ref.exported.actor);
    for (const narrower of this.narrowed.get(ref)?.values() ?? []) this.release(narrower);
  }

  /** Plain data that stands for a ref; undefined if `value` is none. */
  encode(value: object): unknown[] | undefined {
    if (!(value instanceof ActorRef)) return undefined;
    const { node, incarnation, actor, className, addresses, methods } = value.address;
    return [node, incarnation, actor, className, addresses, ...(methods ? [methods] : [])];
  }

  /** The ref an address stands for: the actor itself if it lives here. @throws TypeError if it is malformed. */
  decode(data: unknown): Ref<any> {
    const [node, incarnation, actor, className, addresses, methods] = Array.isArray(data) ? data : [];
    if (
      ![node, className].every((field) => typeof field === "string") ||
      ![incarnation, actor].every((field) => Number.isSafeInteger(field)) ||
      ![addresses, methods ?? []].every(isStrings)
    ) {
      throw new TypeError("a ref in a message is malformed");
    }
    const { host } = this;
    const known = host.addressesOf(node) ?? addresses;
    const address: ActorAddress = { node, incarnation, actor, className, addresses: known, methods };
    const timeout = host.askTimeoutMs;
    if (node === host.id) {
      const found = incarnation === host.incarnation ? this.exported.get(actor) : undefined;
      if (found) return found;
      const gone = new GoneTarget(host, `${className}#${actor} on ${node}`, "it has ended");
      return new ActorRef(address, gone, this.tableFor(className, methods), timeout);
    }
    const target = new RemoteTarget(host.remote, address);
    return new ActorRef(address, target, this.tableFor(className, methods), timeout);
  }

  private tableFor(className: string, methods: readonly string[] | undefined): MethodTable {
    // Not of a class of that name that is hosted here: over there it may be another one, or a later version.
    const key = JSON.stringify([className, methods]);
    let table = this.foreignTables.get(key);
    if (!table) {
      if (this.foreignTables.size >= FOREIGN_TABLES) this.foreignTables.clear();
      table = methods
        ? tableOf(className, new Map(methods.map((name) => [name, { name, reentrant: false }])))
        : unknownMethods(className);
      this.foreignTables.set(key, table);
    }
    return table;
  }
}

/** 53 bits of 64 as an integer. */
function capability(bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return (view.getUint32(0) >>> 11) * 2 ** 32 + view.getUint32(4);
}

function isStrings(value: unknown): boolean {
  return Array.isArray(value) && value.every((each) => typeof each === "string");
}
