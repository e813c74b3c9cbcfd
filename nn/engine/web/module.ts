/**
 * onnxruntime-web's WebAssembly module without the JavaScript around it: the C-like functions that it exports,
 * and what is needed to call them. The package's own API copies every input into the module's heap and every
 * output out of it on each run; here tensors live in that heap.
 *
 * The functions are those of `js/web/lib/wasm/wasm-types.ts` in the source of onnxruntime.
 */

import { EngineError } from "../engine.ts";
import { assetUrl } from "./assets.ts";

/** The exports that are used. Addresses are bytes from the start of the heap; 0 is null or, for a status, success. */
export interface OrtExports {
  _OrtInit(threads: number, logLevel: number): number;
  _OrtGetLastError(code: number, message: number): number;
  _OrtCreateSessionOptions(
    ...args: [
      optimisation: number,
      memoryArena: number,
      memoryPattern: number,
      executionMode: number,
      profiling: number,
      profilePrefix: number,
      logId: number,
      logSeverity: number,
      logVerbosity: number,
      optimisedModelPath: number,
    ]
  ): number;
  _OrtReleaseSessionOptions(options: number): number;
  _OrtAddSessionConfigEntry(options: number, key: number, value: number): number;
  _OrtCreateSession(model: number, bytes: number, options: number): number | Promise<number>;
  _OrtReleaseSession(session: number): number;
  _OrtCreateTensor(
    type: number,
    data: number,
    bytes: number,
    dims: number,
    rank: number,
    location: number,
  ): number;
  _OrtReleaseTensor(tensor: number): number;
  _OrtRun(
    session: number,
    inputNames: number,
    inputs: number,
    inputCount: number,
    outputNames: number,
    outputCount: number,
    outputs: number,
    options: number,
  ): number | Promise<number>;
  _malloc(bytes: number): number;
  _free(address: number): void;
}

/** What the module's factory is told (emscripten). */
interface FactoryOptions {
  readonly numThreads: number;
  readonly instantiateWasm: (
    imports: WebAssembly.Imports,
    done: (instance: WebAssembly.Instance, module: WebAssembly.Module) => void,
  ) => void;
  readonly print: (text: string) => void;
  readonly printErr: (text: string) => void;
}

/** OrtLoggingLevel: errors come back as statuses, so the log says only what ends the process. */
export const LOG_FATAL = 4;

export class WebModule {
  readonly api: OrtExports;
  readonly memory: WebAssembly.Memory;

  private constructor(api: OrtExports, memory: WebAssembly.Memory) {
    this.api = api;
    this.memory = memory;
  }

  /** Loads and starts the module; more than one thread starts workers of its own. @throws EngineError. */
  static async load(threads: number): Promise<WebModule> {
    const factory = (await import(assetUrl("ort-wasm-simd-threaded.mjs"))).default as (
      options: FactoryOptions,
    ) => Promise<OrtExports>;
    const binary = await WebAssembly.compile(await readAsset("ort-wasm-simd-threaded.wasm"));
    let memory: WebAssembly.Memory | undefined;
    const failed = Promise.withResolvers<never>();
    const api = await Promise.race([
      failed.promise,
      factory({
        numThreads: threads,
        print: () => {},
        printErr: () => {},
        instantiateWasm(imports, done) {
          // The factory makes the memory and keeps it to itself; here it passes by.
          const values = Object.values(imports).flatMap((group) => Object.values(group));
          memory = values.find((value) => value instanceof WebAssembly.Memory);
          WebAssembly.instantiate(binary, imports).then((instance) => done(instance, binary), failed.reject);
        },
      }),
    ]);
    const module = new WebModule(api, memory!);
    module.check(api._OrtInit(threads, LOG_FATAL));
    return module;
  }

  /** Passes success; throws the runtime's message for anything else. */
  check(status: number): void {
    if (status === 0) return;
    throw new EngineError(this.lastError());
  }

  /** Passes what was made. */
  made(address: number): number {
    if (address === 0) throw new EngineError(this.lastError());
    return address;
  }

  /** A block of the heap. @throws EngineError when there is none. */
  allocate(bytes: number): number {
    const address = this.api._malloc(Math.max(1, bytes));
    if (address === 0) throw new EngineError(`WebAssembly's memory has no ${bytes} bytes left`);
    return address;
  }

  /** Copies into the heap. */
  place(content: Uint8Array): number {
    const address = this.allocate(content.byteLength);
    this.bytes().set(content, address);
    return address;
  }

  /** A null-terminated string in the heap. */
  text(value: string): number {
    return this.place(new TextEncoder().encode(`${value}\0`));
  }

  /** 32-bit numbers in the heap; addresses are such. */
  words(values: readonly number[]): number {
    return this.place(new Uint8Array(Uint32Array.from(values).buffer));
  }

  /** Views of the heap are taken anew each time: it grows. */
  private bytes(): Uint8Array {
    return new Uint8Array(this.memory.buffer);
  }

  private lastError(): string {
    const { api } = this;
    const at = this.allocate(8);
    api._OrtGetLastError(at, at + 4);
    const [, message] = new Uint32Array(this.memory.buffer, at, 2);
    api._free(at);
    if (!message) return "ONNX Runtime failed without a message";
    const bytes = this.bytes();
    // Decoders do not take shared memory.
    return new TextDecoder().decode(bytes.slice(message, bytes.indexOf(0, message)));
  }
}

async function readAsset(name: string): Promise<BufferSource> {
  const url = assetUrl(name);
  if (url.startsWith("file:")) return (await import("node:fs/promises")).readFile(new URL(url));
  const response = await fetch(url);
  if (!response.ok) throw new EngineError(`${url} answers ${response.status}; a page has to serve it`);
  return response.arrayBuffer();
}
