/**
 * Weight stashing (Narayanan et al., "PipeDream: Generalized Pipeline Parallelism for DNN Training", SOSP 2019): where
 * parameters are updated while micro-batches are between their forward and their backward pass, a backward pass runs with
 * the parameters that its forward pass had, while forward passes have the newest.
 *
 * With d_s the updates that stage s has yet to make when the forward pass of micro-batch m comes there (S − 1 − s of S
 * stages, once 1F1B is under way), and with SGD of rate η, that is
 *
 *     w_s(m + 1) = w_s(m) − η ∇_s loss_m(w_0(m − d_0), …, w_S−1(m − d_S−1)).
 *
 * Runs are bound to memory, and updates write over it. So the parameters are copied before an update, once for all
 * micro-batches whose forward pass had them, if there is any, and the backward passes of those are bound to the copy; it
 * is used again when the last of them is done. There are as many copies as versions are really in flight beside the
 * newest, none with one micro-batch at a time, and only of parameters that a backward pass reads.
 */

import type { Binding, EngineTensor } from "../engine/engine.ts";
import type { ValueInfo } from "../onnx/graph.ts";
import type { Arena, EngineTensors } from "./arena.ts";

/** Binds a run of a slot to the state of its stage. */
export type BindRun<Run extends string> = (slot: number, run: Run, state: EngineTensors) => Binding;

/** A copy of the parameters, and who still needs it. */
interface Version {
  /** By what they are copies of: parameters that are one have one. */
  readonly copies: ReadonlyMap<EngineTensor, EngineTensor>;
  readonly state: EngineTensors;
  readonly bindings: Map<string, Binding>;
  readonly slots: Set<number>;
}

export class Versions<Run extends string> {
  private readonly arena: Arena;
  private readonly read: readonly ValueInfo[];
  private readonly state: EngineTensors;
  private readonly bind: BindRun<Run>;
  /** Slots whose forward pass had the parameters as they are now. */
  private readonly newest = new Set<number>();
  private readonly older = new Map<number, Version>();
  private readonly unused: Version[] = [];

  /** @param read parameters that backward passes read. @param state the stage's, by name. */
  constructor(arena: Arena, read: readonly ValueInfo[], state: EngineTensors, bind: BindRun<Run>) {
    this.arena = arena;
    this.read = read;
    this.state = state;
    this.bind = bind;
  }

  /** The micro-batch in this slot has its forward pass now. */
  began(slot: number): void {
    this.ended(slot);
    this.newest.add(slot);
  }

  /** The micro-batch in this slot has had its backward pass, or never will. */
  ended(slot: number): void {
    this.newest.delete(slot);
    const version = this.older.get(slot);
    this.older.delete(slot);
    if (version?.slots.delete(slot) && version.slots.size === 0) this.unused.push(version);
  }

  /** Before parameters change: keeps them as they are for those in flight that had them. */
  async keep(): Promise<void> {
    if (this.newest.size === 0) return;
    const version = this.unused.pop() ?? this.allocate();
    for (const slot of this.newest) {
      this.older.set(slot, version);
      version.slots.add(slot);
    }
    this.newest.clear();
    await Promise.all([...version.copies].map(([from, copy]) => copy.copy(from)));
  }

  /** The run of this slot with the parameters its forward pass had; undefined where those are the newest. */
  binding(slot: number, run: Run): Binding | undefined {
    const version = this.older.get(slot);
    if (!version) return undefined;
    const key = `${slot} ${run}`;
    const binding = version.bindings.get(key) ?? this.bind(slot, run, version.state);
    version.bindings.set(key, binding);
    return binding;
  }

  private allocate(): Version {
    const copies = new Map<EngineTensor, EngineTensor>();
    const state = new Map(this.state);
    for (const info of this.read) {
      const from = this.state.get(info.name)!;
      const copy = copies.get(from) ?? this.arena.allocate(info, "device");
      copies.set(from, copy);
      state.set(info.name, copy);
    }
    return { copies, state, bindings: new Map(), slots: new Set() };
  }
}
