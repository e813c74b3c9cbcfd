/**
 * The messages of a class, found once per class: a table of its public methods, and the objects behind `ref.tell`
 * and `ref.ask` as classes with one method per message, so that a call costs a call and no lookup by a proxy. A
 * class known only by name (it lives on another node) has its methods made at their first use instead.
 *
 * The classes `Tell` and `Ask` work on any target, by the method's name; those in `local` on cells of this node,
 * with less on the way (calls.ts).
 */

import { Actor, type ActorClass } from "./actor.ts";
import { type LocalFacades, localFacades, type Method, methodNamed } from "./calls.ts";

/** Where a call goes: an actor of this node, or one behind a link. */
export interface Target {
  tell(method: string, args: unknown[]): void;
  ask(method: string, args: unknown[], timeoutMs: number | undefined): Promise<unknown>;
}

export interface FacadeClass {
  new (target: Target, timeoutMs: number | undefined): object;
}

export interface MethodTable {
  readonly className: string;
  /** Empty for a class that is known only by name. */
  readonly methods: ReadonlyMap<string, { readonly name: string }>;
  readonly Tell: FacadeClass;
  readonly Ask: FacadeClass;
  /** For targets that are cells; without it they too are called by name. */
  readonly local?: LocalFacades;
}

/** The table of a class whose code is here. */
export interface ClassTable extends MethodTable {
  readonly methods: ReadonlyMap<string, Method>;
  readonly local: LocalFacades;
}

const TARGET = Symbol("target");
const TIMEOUT = Symbol("timeout");

interface Facade {
  [TARGET]: Target;
  [TIMEOUT]: number | undefined;
}

/**
 * Names that are no messages, beside those every actor and every object has: the language itself calls them, when a
 * facade is awaited or printed as JSON, and would send a message that nobody meant.
 */
const RESERVED = new Set(["then", "toJSON"]);

const tables = new WeakMap<ActorClass, ClassTable>();

/** The table of a class; made at the first call. */
export function methodsOf(actor: ActorClass): ClassTable {
  let table = tables.get(actor);
  if (!table) {
    const reentrant = new Set(actor.reentrant ?? []);
    const methods = new Map<string, Method>();
    for (
      let p = actor.prototype;
      p && p !== Actor.prototype && p !== Object.prototype;
      p = Object.getPrototypeOf(p)
    ) {
      for (const name of Object.getOwnPropertyNames(p)) {
        const value = Object.getOwnPropertyDescriptor(p, name)?.value;
        if (typeof value !== "function" || name in Actor.prototype || RESERVED.has(name)) continue;
        if (!methods.has(name)) methods.set(name, methodNamed(name, reentrant.has(name)));
      }
    }
    const { Tell, Ask } = tableOf(actor.name, methods);
    table = { className: actor.name, methods, Tell, Ask, local: localFacades(methods.values()) };
    tables.set(actor, table);
  }
  return table;
}

/** A table of these methods and no others, called by name. */
export function tableOf(className: string, methods: MethodTable["methods"]): MethodTable {
  const table = { className, methods, ...facades() };
  for (const name of methods.keys()) define(table, name);
  return table;
}

/** A table for a class of this name that is not known here. */
export function unknownMethods(className: string): MethodTable {
  const table = { className, methods: new Map(), ...facades() };
  const fallback = new Proxy(Object.create(null), {
    get(_, name, facade) {
      if (typeof name !== "string" || name in Actor.prototype || RESERVED.has(name)) return undefined;
      define(table, name);
      return facade[name];
    },
  });
  Object.setPrototypeOf(table.Tell.prototype, fallback);
  Object.setPrototypeOf(table.Ask.prototype, fallback);
  return table;
}

function facades(): { Tell: FacadeClass; Ask: FacadeClass } {
  class Tell implements Facade {
    [TARGET]: Target;
    [TIMEOUT]: undefined;
    constructor(target: Target) {
      this[TARGET] = target;
    }
  }
  class Ask implements Facade {
    [TARGET]: Target;
    [TIMEOUT]: number | undefined;
    constructor(target: Target, timeoutMs: number | undefined) {
      this[TARGET] = target;
      this[TIMEOUT] = timeoutMs;
    }
  }
  return { Tell, Ask };
}

function define(table: { Tell: FacadeClass; Ask: FacadeClass }, name: string): void {
  Object.defineProperty(table.Tell.prototype, name, {
    value(this: Facade, ...args: unknown[]): void {
      this[TARGET].tell(name, args);
    },
  });
  Object.defineProperty(table.Ask.prototype, name, {
    value(this: Facade, ...args: unknown[]): Promise<unknown> {
      return this[TARGET].ask(name, args, this[TIMEOUT]);
    },
  });
}
