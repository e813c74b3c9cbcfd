/** The foreign function interface of Bun. */

import { dlopen, linkSymbols, ptr, read } from "bun:ffi";
import type { Foreign, ForeignFunction, Memory, Pointer, Signature } from "./ffi.ts";

/** Bun's null becomes 0 and its text object a string. */
function adapt(
  symbols: Readonly<Record<string, (...args: never[]) => unknown>>,
  signatures: Readonly<Record<string, Signature>>,
): Record<string, ForeignFunction> {
  return Object.fromEntries(
    Object.entries(signatures).map(([name, { returns }]) => {
      const call = symbols[name] as unknown as (...args: number[]) => unknown;
      if (returns === "ptr") return [name, (...args: number[]) => (call(...args) as number | null) ?? 0];
      if (returns === "cstring") return [name, (...args: number[]) => String(call(...args))];
      return [name, call as ForeignFunction];
    }),
  );
}

export const foreign: Foreign = {
  open: (path, functions) => adapt(dlopen(path, functions).symbols, functions),
  link(functions) {
    const symbols = Object.fromEntries(
      Object.entries(functions).map(([name, { at, args, returns }]) => [name, { ptr: at, args, returns }]),
    );
    return adapt(linkSymbols(symbols as unknown as Parameters<typeof linkSymbols>[0]).symbols, functions);
  },
  addressOf: (memory: Memory) => ptr(memory as ArrayBufferLike),
  readPointer: (at: Pointer) => read.ptr(at as Parameters<typeof read.ptr>[0]),
};
