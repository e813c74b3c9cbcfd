/**
 * How methods of this node's actors are called: for every method and number of arguments a `Call`, which is what
 * lies in a mailbox, and the functions behind `ref.tell` and `ref.ask` that put it there.
 *
 * Engines learn per piece of code what it is called with. If all methods of all classes shared one piece, it would
 * learn nothing; so each method has a copy of its own, compiled from the text of one function. Where that is
 * forbidden (a page's content security policy) they share it, which is slower and otherwise the same.
 */

import type { Call, Carried, Reply } from "./mailbox.ts";

/** Where calls within a node go: a cell. */
export interface LocalTarget {
  /** @throws RuntimeError MAILBOX_FULL. */
  send(call: Call, reply: Reply | null, a: unknown, b: unknown): void;
  request(call: Call, a: unknown, b: unknown, timeoutMs: number | undefined): Promise<unknown>;
}

export interface Method {
  readonly name: string;
  /** With no argument, one, two, and more. */
  readonly calls: readonly [Call, Call, Call, Call];
  /** For messages that came over a link. */
  readonly carried: Call;
  /** Members of the classes of `facadesOf`. */
  tell(this: LocalFacade, ...args: unknown[]): void;
  ask(this: LocalFacade, ...args: unknown[]): Promise<unknown>;
}

/** Keys no method written as a word can have. Spelled out below, because a key that is a variable is slow. */
interface LocalFacade {
  readonly "#target": LocalTarget;
  readonly "#timeout": number | undefined;
}

/**
 * Refers to nothing outside of itself, for its text is compiled elsewhere, with the name itself in the place of
 * `[name]`.
 */
function makeMethod(name: string, reentrant: boolean): Method {
  const call = (invoke: Call["invoke"], carried = false): Call => ({ name, reentrant, carried, invoke });
  const none = call((actor) => actor[name]());
  const one = call((actor, a) => actor[name](a));
  const two = call((actor, a, b) => actor[name](a, b));
  const more = call((actor, all) => actor[name](...all));
  const carried = call((actor, message: Carried) => {
    message.taken();
    return actor[name](...message.args);
  }, true);
  return {
    name,
    calls: [none, one, two, more],
    carried,
    tell: function (this: LocalFacade, ...args: unknown[]) {
      if (args.length === 0) this["#target"].send(none, null, undefined, undefined);
      else if (args.length === 1) this["#target"].send(one, null, args[0], undefined);
      else if (args.length === 2) this["#target"].send(two, null, args[0], args[1]);
      else this["#target"].send(more, null, args, undefined);
    },
    ask: function (this: LocalFacade, ...args: unknown[]) {
      if (args.length === 0) return this["#target"].request(none, undefined, undefined, this["#timeout"]);
      if (args.length === 1) return this["#target"].request(one, args[0], undefined, this["#timeout"]);
      if (args.length === 2) return this["#target"].request(two, args[0], args[1], this["#timeout"]);
      return this["#target"].request(more, args, undefined, this["#timeout"]);
    },
  };
}

/** A method of a class by its name, with code of its own if that is allowed. */
export function methodNamed(name: string, reentrant: boolean): Method {
  try {
    const text = String(makeMethod).replaceAll("[name]", () => `[${JSON.stringify(name)}]`);
    return new Function(`"use strict"; return (${text});`)()(name, reentrant);
  } catch {
    return makeMethod(name, reentrant);
  }
}

/** Which of a method's calls takes these arguments, and how it takes them. */
export function callWith(method: Method, args: readonly unknown[]): [Call, unknown, unknown] {
  switch (args.length) {
    case 0:
    case 1:
    case 2:
      return [method.calls[args.length]!, args[0], args[1]];
    default:
      return [method.calls[3], args, undefined];
  }
}

export interface LocalFacades {
  readonly Tell: new (target: LocalTarget, timeoutMs: number | undefined) => object;
  readonly Ask: new (target: LocalTarget, timeoutMs: number | undefined) => object;
}

/** The classes of `ref.tell` and `ref.ask` for cells of a class with these methods. */
export function localFacades(methods: Iterable<Method>): LocalFacades {
  class Tell implements LocalFacade {
    readonly "#target": LocalTarget;
    readonly "#timeout": undefined;
    constructor(target: LocalTarget) {
      this["#target"] = target;
    }
  }
  class Ask implements LocalFacade {
    readonly "#target": LocalTarget;
    readonly "#timeout": number | undefined;
    constructor(target: LocalTarget, timeoutMs: number | undefined) {
      this["#target"] = target;
      this["#timeout"] = timeoutMs;
    }
  }
  for (const { name, tell, ask } of methods) {
    Object.defineProperty(Tell.prototype, name, { value: tell });
    Object.defineProperty(Ask.prototype, name, { value: ask });
  }
  return { Tell, Ask };
}
