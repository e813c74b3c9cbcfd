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
  tell(this: LocalFacade, a: unknown, b: unknown): void;
  ask(this: LocalFacade, a: unknown, b: unknown): Promise<unknown>;
}

const TARGET = Symbol("target");
const TIMEOUT = Symbol("timeout");

interface LocalFacade {
  readonly [TARGET]: LocalTarget;
  readonly [TIMEOUT]: number | undefined;
}

type MakeMethod = (
  name: string,
  reentrant: boolean,
  TARGET: symbol,
  TIMEOUT: symbol,
) => Omit<Method, "tell" | "ask"> & { tell: any; ask: any };

/** Refers to nothing outside of itself, for its text is compiled elsewhere. */
const makeMethod: MakeMethod = (name, reentrant, TARGET, TIMEOUT) => {
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
    tell: function (this: any, a: unknown, b: unknown) {
      switch (arguments.length) {
        case 0:
          this[TARGET].send(none, null, undefined, undefined);
          return;
        case 1:
          this[TARGET].send(one, null, a, undefined);
          return;
        case 2:
          this[TARGET].send(two, null, a, b);
          return;
        default:
          // biome-ignore lint/complexity/noArguments: a rest parameter would make an array for every call.
          this[TARGET].send(more, null, [...arguments], undefined);
      }
    },
    ask: function (this: any, a: unknown, b: unknown) {
      switch (arguments.length) {
        case 0:
          return this[TARGET].request(none, undefined, undefined, this[TIMEOUT]);
        case 1:
          return this[TARGET].request(one, a, undefined, this[TIMEOUT]);
        case 2:
          return this[TARGET].request(two, a, b, this[TIMEOUT]);
        default:
          // biome-ignore lint/complexity/noArguments: as above.
          return this[TARGET].request(more, [...arguments], undefined, this[TIMEOUT]);
      }
    },
  };
};

/** A method of a class by its name, with code of its own if that is allowed. */
export function methodNamed(name: string, reentrant: boolean): Method {
  try {
    const own: MakeMethod = new Function(`"use strict"; return (${makeMethod});`)();
    return own(name, reentrant, TARGET, TIMEOUT);
  } catch {
    return makeMethod(name, reentrant, TARGET, TIMEOUT);
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
    readonly [TARGET]: LocalTarget;
    readonly [TIMEOUT]: undefined;
    constructor(target: LocalTarget) {
      this[TARGET] = target;
    }
  }
  class Ask implements LocalFacade {
    readonly [TARGET]: LocalTarget;
    readonly [TIMEOUT]: number | undefined;
    constructor(target: LocalTarget, timeoutMs: number | undefined) {
      this[TARGET] = target;
      this[TIMEOUT] = timeoutMs;
    }
  }
  for (const { name, tell, ask } of methods) {
    Object.defineProperty(Tell.prototype, name, { value: tell });
    Object.defineProperty(Ask.prototype, name, { value: ask });
  }
  return { Tell, Ask };
}
