/**
 * The foreign function interface of Deno (`--allow-ffi`). Pointers cross it as integers: Deno's pointer objects
 * would have to be made and dropped on every call.
 */

import type { Foreign, ForeignFunction, ForeignType, Memory, Pointer, Signature } from "./ffi.ts";

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

export const foreign: Foreign = {
  open(path, functions) {
    const entries = Object.entries(functions);
    const { symbols } = Deno.dlopen(
      path,
      Object.fromEntries(entries.map(([name, signature]) => [name, translate(signature)])),
    );
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
