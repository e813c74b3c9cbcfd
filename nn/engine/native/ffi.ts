/**
 * The foreign function interface as the native engine needs it, whichever platform gives it: open a library, call
 * its functions and functions at an address, and take the address of memory. One small file per platform does it.
 *
 * Addresses are plain numbers (they fit 53 bits on every 64-bit platform of today); 0 is null.
 */

/** An address in the process; 0 is null. */
export type Pointer = number;

/** What a C function takes and gives. `ptr` is an address, `cstring` the text at one. */
export type ForeignType = "ptr" | "cstring" | "i32" | "u32" | "u64" | "void";

export interface Signature {
  readonly args: readonly ForeignType[];
  readonly returns: ForeignType;
}

/** Numbers in; a number, a text or nothing out, as the signature says. */
export type ForeignFunction = (...args: number[]) => number | string | undefined;

export type Memory = ArrayBufferView | ArrayBufferLike;

export interface Foreign {
  /** Opens a library for good. @throws where there is none at that path or it lacks a function. */
  open(path: string, functions: Readonly<Record<string, Signature>>): Record<string, ForeignFunction>;
  /** Functions by their address. */
  link(
    functions: Readonly<Record<string, Signature & { readonly at: Pointer }>>,
  ): Record<string, ForeignFunction>;
  /** Where memory starts. Whoever takes the address keeps the memory reachable for as long as C may use it. */
  addressOf(memory: Memory): Pointer;
  /** The address that stands at an address. */
  readPointer(at: Pointer): Pointer;
}

/** The interface of the platform this runs on; null where there is none (Node.js, browsers). */
export async function openForeign(): Promise<Foreign | null> {
  if (typeof process !== "undefined" && process.versions.bun) return (await import("./ffi-bun.ts")).foreign;
  if ("Deno" in globalThis) return (await import("./ffi-deno.ts")).foreign;
  return null;
}
