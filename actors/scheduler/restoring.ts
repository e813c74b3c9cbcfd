/** Giving a stage what it held after a step, from those who have copies, and each directly to the other where it can be. */

import { LOSS_SCALE } from "../../nn/optim/loss-scale.ts";
import { sliceTensor } from "../../nn/shards/slices.ts";
import type { Tensor } from "../../protocols/tensor.ts";
import type { Ref } from "../../runtime/index.ts";
import type { Fetch } from "../recovery/replica.ts";
import { holdingOf } from "../stage/spec.ts";
import type { Stage } from "../stage.ts";
import type { Placed } from "./handover.ts";
import { type Copies, valueFrom } from "./whole.ts";

type Values = Readonly<Record<string, Tensor>>;
/** Values that training does not change. */
type Fixed = (names: readonly string[]) => Promise<Values>;

/** Where what stages are given comes from. */
export class Restoring {
  private readonly step: number;
  private readonly copies: Copies;
  private readonly fixed: Fixed;
  /** Values that nobody has as some stage is to hold them, whole again. */
  private readonly gathered = new Map<string, Promise<Tensor>>();

  /** @param fixed what training does not change. */
  constructor(step: number, copies: Copies, fixed: Fixed) {
    this.step = step;
    this.copies = copies;
    this.fixed = fixed;
  }

  /**
   * Gives a stage what it does not have of these.
   * @param to what it is asked by. @param groups names of what it holds, each as much as fits into a message.
   * @param keeps whether it keeps a copy at once, so that whatever comes between finds it with nothing or with all.
   * @returns bytes that were moved.
   * @throws CopiesLost where a value is with nobody.
   */
  async give(
    placed: Placed,
    to: () => Ref<Stage>["ask"],
    groups: readonly string[][],
    keeps = false,
  ): Promise<number> {
    const { worker, spec, holdings, has } = placed;
    if (has === "all") return 0;
    const { step, copies } = this;
    const { changing } = holdings;
    const holding = holdingOf(spec, holdings);
    const changes = new Set(changing);
    let bytes = 0;
    const all = [...groups.slice(0, -1), [...(groups.at(-1) ?? []), LOSS_SCALE]];
    for (const [index, group] of all.entries()) {
      const given: Record<string, Tensor> = {};
      const fetched: (Fetch & { readonly names: string[] })[] = [];
      if (has === "nothing") Object.assign(given, await fixedOf(placed, group, this.fixed));
      for (const name of group.filter((each) => changes.has(each))) {
        const copy = copies.exact(step, name, holding, worker.member.device);
        if (copy) {
          const { source, holding: theirs } = copy;
          const known = fetched.find((each) => each.source === source && each.worker === theirs.worker);
          if (known) known.names.push(name);
          else fetched.push({ source, worker: theirs.worker, names: [name] });
        } else given[name] = partOf(placed, name, await this.gather(name));
      }
      if (Object.keys(given).length > 0) await to().load(given);
      const isLast = index === all.length - 1;
      if (fetched.length > 0) bytes += await to().fetch(step, fetched, keeps && isLast);
      for (const tensor of Object.values(given)) bytes += tensor.bytes.byteLength;
    }
    return bytes;
  }

  private gather(name: string): Promise<Tensor> {
    const known = this.gathered.get(name) ?? valueFrom(this.copies, this.step, name);
    this.gathered.set(name, known);
    return known;
  }
}

/**
 * Gives a stage what training does not change of these.
 * @param groups names of what it holds, each as much as fits into a message.
 */
export async function giveFixed(placed: Placed, groups: readonly string[][], fixed: Fixed): Promise<void> {
  for (const group of groups) {
    const given = await fixedOf(placed, group, fixed);
    if (Object.keys(given).length > 0) await placed.stage.ask.load(given);
  }
}

/** Of these names, what training does not change, as the stage is to hold it. */
async function fixedOf(
  placed: Placed,
  group: readonly string[],
  fixed: Fixed,
): Promise<Record<string, Tensor>> {
  const changes = new Set(placed.holdings.changing);
  const names = group.filter((name) => !changes.has(name) && name !== LOSS_SCALE);
  if (names.length === 0) return {};
  const entries = Object.entries(await fixed(names));
  return Object.fromEntries(entries.map(([name, whole]) => [name, partOf(placed, name, whole)]));
}

function partOf({ worker, holdings }: Placed, name: string, whole: Tensor): Tensor {
  const cut = holdings.cuts[name];
  return cut ? sliceTensor(whole, cut, worker.rank) : whole;
}
