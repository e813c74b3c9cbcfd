/**
 * Files mapped into memory, shared with every process that maps the same file. Bun maps by itself; Deno through
 * the C library. Elsewhere there is none, and `mappedFiles` says why.
 *
 * Whoever shortens a mapped file kills every process that touches what is gone (SIGBUS): a mapped file is unlinked,
 * never truncated, and its space is reserved before it is mapped.
 */

export interface Mapping {
  /** The whole file; what is written is seen by all who have it mapped. Its first byte is on a page's border. */
  readonly bytes: Uint8Array;
  /**
   * Gives the memory back: at once under Deno, where `bytes` and all views of its buffer are empty from then on;
   * under Bun, which has no such call, when the last view has been collected.
   */
  release(): void;
}

export interface MappedFiles {
  /** Maps a file of exactly `byteLength` bytes for reading and writing. @throws when the system refuses. */
  map(path: string, byteLength: number): Mapping;
}

/** How this platform maps files, or the words in which it says that it cannot. Does not throw. */
export function mappedFiles(): MappedFiles | { readonly unavailable: string } {
  if (typeof Bun !== "undefined") {
    if (typeof Bun.mmap === "function" && process.platform !== "win32") return bunFiles;
    return { unavailable: `Bun does not map files on ${process.platform}` };
  }
  if (typeof Deno !== "undefined") {
    denoProbe ??= probeDeno();
    return denoProbe;
  }
  return { unavailable: "only Bun and Deno can map files into memory" };
}

const bunFiles: MappedFiles = {
  map(path, byteLength) {
    const bytes = Bun.mmap(path, { shared: true });
    if (bytes.byteLength !== byteLength) throw wrongLength(path, byteLength, bytes.byteLength);
    return { bytes, release: () => undefined };
  },
};

// --- Deno ------------------------------------------------------------------------------------------------------

/** The part of Deno's interface that is used here. */
interface DenoFfi {
  readonly build: { readonly os: string };
  statSync(path: string): { readonly size: number };
  dlopen(path: string, symbols: object): { readonly symbols: LibC };
  readonly UnsafePointerView: { getArrayBuffer(pointer: object, byteLength: number): ArrayBuffer };
  readonly UnsafePointer: { value(pointer: object): bigint };
}
interface LibC {
  open(path: Uint8Array, flags: number): number;
  close(file: number): number;
  mmap(at: bigint, bytes: bigint, access: number, flags: number, file: number, from: bigint): object | null;
  munmap(pointer: object, bytes: bigint): number;
}
declare const Deno: DenoFfi;

const OPEN_READ_WRITE = 2;
const READ_AND_WRITE = 3;
const SHARED = 1;
const C_LIBRARY: Readonly<Record<string, string>> = { linux: "libc.so.6", darwin: "libSystem.dylib" };
let denoProbe: MappedFiles | { readonly unavailable: string } | undefined;

function probeDeno(): MappedFiles | { readonly unavailable: string } {
  const library = C_LIBRARY[Deno.build.os];
  if (!library) return { unavailable: `Deno has no mmap on ${Deno.build.os}` };
  try {
    const { symbols } = Deno.dlopen(library, {
      open: { parameters: ["buffer", "i32"], result: "i32" },
      close: { parameters: ["i32"], result: "i32" },
      mmap: { parameters: ["usize", "usize", "i32", "i32", "i32", "i64"], result: "pointer" },
      munmap: { parameters: ["pointer", "usize"], result: "i32" },
    });
    return denoFiles(symbols);
  } catch (error) {
    return { unavailable: `Deno may not call the C library (--allow-ffi): ${(error as Error).message}` };
  }
}

function denoFiles(libc: LibC): MappedFiles {
  return {
    map(path, byteLength) {
      const { size } = Deno.statSync(path);
      if (size !== byteLength) throw wrongLength(path, byteLength, size);
      const file = libc.open(new TextEncoder().encode(`${path}\0`), OPEN_READ_WRITE);
      if (file < 0) throw new Error(`the system refused to open ${path}`);
      try {
        const pointer = libc.mmap(0n, BigInt(byteLength), READ_AND_WRITE, SHARED, file, 0n);
        // MAP_FAILED is the highest address.
        if (!pointer || BigInt.asIntN(64, Deno.UnsafePointer.value(pointer)) === -1n) {
          throw new Error(`the system refused to map ${path}`);
        }
        const buffer = Deno.UnsafePointerView.getArrayBuffer(pointer, byteLength);
        return {
          bytes: new Uint8Array(buffer),
          release() {
            if (buffer.byteLength === 0) return;
            // Detached first: no view is left that could reach the memory when it is gone.
            buffer.transfer();
            libc.munmap(pointer, BigInt(byteLength));
          },
        };
      } finally {
        libc.close(file);
      }
    },
  };
}

function wrongLength(path: string, expected: number, got: number): Error {
  return new Error(`expected ${path} to have ${expected} bytes, it has ${got}`);
}
