/**
 * The foreign function interface of Deno (`--allow-ffi`). Pointers cross it as integers: Deno's pointer objects
 * would have to be made and dropped on every call.
 */

import process from "node:process";
import type { Foreign, ForeignFunction, ForeignType, Memory, Pointer, Signature } from "./ffi.ts";
import { cString } from "./pointers.ts";

/** Opaque, and null for address 0. */
type DenoPointer = object | null;

interface DenoSignature {
  readonly parameters: readonly string[];
  readonly result: string;
}
type DenoFunction = (...args: number[]) => unknown;

/** The part of Deno that is used. */
interface DenoFfi {
  dlopen(
    path: string,
    symbols: Readonly<Record<string, DenoSignature>>,
  ): { readonly symbols: Readonly<Record<string, DenoFunction>> };
  readonly UnsafePointer: {
    of(memory: Memory): DenoPointer;
    create(address: bigint): DenoPointer;
    value(pointer: DenoPointer): number | bigint;
  };
  readonly UnsafePointerView: {
    new (pointer: DenoPointer): { getBigUint64(): bigint };
    getCString(pointer: DenoPointer): string;
  };
  readonly UnsafeFnPointer: new (
    pointer: DenoPointer,
    signature: DenoSignature,
  ) => { readonly call: DenoFunction };
}

declare const Deno: DenoFfi;

const TYPE: Readonly<Record<ForeignType, string>> = {
  ...{ ptr: "usize", cstring: "usize", i32: "i32", u32: "u32", u64: "u64", void: "void" },
};

const translate = ({ args, returns }: Signature): DenoSignature => ({
  parameters: args.map((type) => TYPE[type]),
  result: TYPE[returns],
});

const pointer = (at: Pointer): DenoPointer => Deno.UnsafePointer.create(BigInt(at));

function adapt(call: DenoFunction, { returns }: Signature): ForeignFunction {
  if (returns === "ptr") return (...args) => Number(call(...args));
  if (returns === "cstring") {
    return (...args) => Deno.UnsafePointerView.getCString(pointer(Number(call(...args))));
  }
  return call as ForeignFunction;
}

type Functions = Readonly<Record<string, Signature>>;

function load(path: string, functions: Functions): Readonly<Record<string, DenoFunction>> {
  const translated = Object.entries(functions).map(([name, signature]) => [name, translate(signature)]);
  return Deno.dlopen(path, Object.fromEntries(translated)).symbols;
}

/** RTLD_LAZY; Linux and macOS agree on it. */
const LAZY = 1;

/**
 * Loads a library once more, for the process. Deno closes what a thread has opened when the thread ends, and then
 * the finalisers of an unloaded library run beside those of a process that exits: a segmentation fault. Windows
 * ends its threads before the libraries are finalised, and needs none of this.
 */
function keepLoaded(path: string): void {
  const library = { linux: "libc.so.6", darwin: "libSystem.B.dylib" }[process.platform as string];
  if (library === undefined) return;
  const { dlopen } = load(library, { dlopen: { args: ["ptr", "i32"], returns: "ptr" } });
  const text = [cString(path)];
  dlopen!(foreign.addressOf(text[0]!), LAZY);
  // Reachable until C has read it.
  text.length = 0;
}

export const foreign: Foreign = {
  open(path, functions) {
    const symbols = load(path, functions);
    keepLoaded(path);
    const entries = Object.entries(functions);
    return Object.fromEntries(entries.map(([name, signature]) => [name, adapt(symbols[name]!, signature)]));
  },
  link: (functions) =>
    Object.fromEntries(
      Object.entries(functions).map(([name, { at, ...signature }]) => {
        const linked = new Deno.UnsafeFnPointer(pointer(at), translate(signature));
        return [name, adapt((...args) => linked.call(...args), signature)];
      }),
    ),
  addressOf: (memory) => Number(Deno.UnsafePointer.value(Deno.UnsafePointer.of(memory))),
  readPointer: (at) => Number(new Deno.UnsafePointerView(pointer(at)).getBigUint64()),
};
