/**
 * An engine as fast as a processor that is slower than this one: kernels run at full speed, and their results are held
 * back until that processor would have been done. Results are those of the engine.
 *
 * How long that is does not depend on how fast this machine is at the moment, which on a shared one changes by half
 * within seconds. Behind a kernel's first runs a reference kernel is run, and the ratio of both times is the same on a
 * machine that is disturbed: their median is what the kernel takes in units of the reference. A kernel is known by its
 * graph, so it takes the same time wherever it is used again.
 */

import type { Binding, Engine, Executable } from "../../nn/engine/engine.ts";
import type { Graph } from "../../nn/onnx/graph.ts";
import { encodeModel } from "../../nn/onnx/proto.ts";
import type { Clock } from "../../runtime/index.ts";
import { median } from "../statistics.ts";
import { REFERENCE_MS, type ReferenceKernel } from "./reference-kernel.ts";

/** Runs after which a kernel's time is taken for known. */
const KNOWN_RUNS = 15;
/** As long the reference kernel's time is taken for what it would be now. */
const FRESH_MS = 10;

export interface Paced extends Engine {
  /** Milliseconds that the slower processor would have computed so far. */
  readonly busyMs: number;
  /** Milliseconds that results have come later than that processor would have had them. */
  readonly lateMs: number;
}

export interface Pace {
  /** Of the processor, above 0 and at most 1. */
  readonly share: number;
  readonly clock: Clock;
  /** Of the engine itself. */
  readonly reference: ReferenceKernel;
  /** Milliseconds that kernels have had a processor: what they wait for one beside other programs is none of theirs. */
  computedMs?(): Promise<number>;
}

/** @throws RangeError for a share that is none. */
export function paced(engine: Engine, { share, clock, reference, computedMs }: Pace): Paced {
  if (!(share > 0 && share <= 1)) throw new RangeError(`a share is above 0 and at most 1, got ${share}`);
  /** By graph: its time over that of the reference, run by run. */
  const kernels = new Map<string, number[]>();
  /** Those that have been run more than once. */
  const warm = new Set<number[]>();
  let [referenceMs, referredAt] = [Number.NaN, Number.NEGATIVE_INFINITY];
  let [busyMs, lateMs] = [0, 0];
  /** When the processor is free again: reckoned, so that timers which are late do not add up. */
  let freeAt = 0;
  let last: Promise<unknown> = Promise.resolve();

  const timed = async (kernel: ReferenceKernel): Promise<number> => {
    const began = (await computedMs?.()) ?? 0;
    const ms = await kernel.run();
    const computed = computedMs ? (await computedMs()) - began : ms;
    return computed > 0 ? Math.min(computed, ms) : ms;
  };
  const run = async (binding: Binding, ratios: number[], asked: number): Promise<number> => {
    const own = await timed(binding);
    if (ratios.length < KNOWN_RUNS) {
      // Behind the kernel, where most often there is time before its result is due.
      if (!(clock.now() - referredAt < FRESH_MS)) {
        referenceMs = await timed(reference);
        referredAt = clock.now();
      }
      // The first run makes room in memory and caches: it counts until there is another.
      if (ratios.length === 1 && !warm.has(ratios)) {
        warm.add(ratios);
        ratios.pop();
      }
      ratios.push(own / referenceMs);
    }
    const ms = (median(ratios) * REFERENCE_MS) / share;
    busyMs += ms;
    freeAt = Math.max(freeAt, asked) + ms;
    const rest = freeAt - clock.now();
    if (rest > 0) await clock.sleep(rest);
    else lateMs -= rest;
    return ms;
  };
  const slowBinding = (binding: Binding, ratios: number[]): Binding => ({
    run() {
      const asked = clock.now();
      const turn = last.then(() => run(binding, ratios, asked));
      last = turn.catch(() => {});
      return turn;
    },
    release: () => binding.release(),
  });
  const slowExecutable = (executable: Executable, ratios: number[]): Executable => ({
    inputs: executable.inputs,
    outputs: executable.outputs,
    bind: (feeds, fetches) => slowBinding(executable.bind(feeds, fetches), ratios),
    profile: () => executable.profile(),
    release: () => executable.release(),
  });
  const ratiosOf = (graph: Graph): number[] => {
    const key = `${Bun.hash(encodeModel(graph))}`;
    const known = kernels.get(key) ?? [];
    kernels.set(key, known);
    return known;
  };
  return {
    name: engine.name,
    get busyMs() {
      return busyMs;
    },
    get lateMs() {
      return lateMs;
    },
    allocate: (dtype, shape, place) => engine.allocate(dtype, shape, place),
    compile: async (graph, options) => slowExecutable(await engine.compile(graph, options), ratiosOf(graph)),
    usage: () => engine.usage(),
    close: () => engine.close(),
  };
}
