/** One thread each: a training step of Troupe's native engine beside PyTorch's, taking turns. */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { readDefaultText } from "../../actors/data/corpus.ts";
import { files } from "../../runtime/platform/files.ts";
import { milliseconds, percent, times, whole } from "../format.ts";
import { LocalTraining } from "../local.ts";
import { productFlops, timeProduct } from "../product.ts";
import { findPyTorch, type PyTorch, startNet, startRounds } from "../pytorch.ts";
import type { Section } from "../report.ts";
import { type Contender, inTurns } from "../rounds.ts";
import { median, speedRatio } from "../statistics.ts";
import { Opened } from "../train/parts.ts";
import { GPT_3M } from "../workload.ts";
import type { NnContext, NnResult } from "./parts.ts";
import { type NnWorkload, workloads } from "./workloads.ts";

const OURS = "Troupe";
const STOCK = "PyTorch";
const UNLOCKED = "PyTorch, MKL unlocked";

export async function native(context: NnContext, only: string): Promise<NnResult> {
  const workload = workloads(context.quick).find(({ name }) => name === only)!;
  const found = await findPyTorch(context.folder);
  const torch = "absent" in found ? null : found;
  const reasons = [
    ...("absent" in found ? [`${STOCK}: skipped, ${found.absent}`] : []),
    ...(torch && context.quick && workload.rival === null
      ? [`${STOCK}: skipped, its script has one size, which --quick does not take`]
      : []),
    ...(torch?.unlock.library === null ? [`${UNLOCKED}: skipped, ${torch.unlock.why}`] : []),
  ];
  const opened = new Opened();
  try {
    context.note(`${workload.name}: starting the contenders`);
    const ours = opened.add(
      await LocalTraining.open(workload.model(), { microBatches: workload.microBatches }),
    );
    const contenders: Contender[] = [{ name: OURS, work: (count) => ours.steps(count) }];
    if (torch && !(context.quick && workload.rival === null)) {
      for (const unlocked of torch.unlock.library === null ? [false] : [false, true]) {
        const child = opened.add(await startRival(torch, workload, unlocked, context));
        const { parameters } = JSON.parse(child.greeting) as { parameters: number };
        if (parameters !== ours.parameters) {
          throw new RangeError(
            `${workload.name}: PyTorch has ${parameters} parameters, Troupe ${ours.parameters}`,
          );
        }
        contenders.push({
          name: unlocked ? UNLOCKED : STOCK,
          work: async (count) => JSON.parse(await child.ask(`${count}`)),
        });
      }
    }
    await ours.steps(2);
    context.note(`${workload.name}: rounds: ${context.rounds}, contenders: ${contenders.length}`);
    const steps = await inTurns(contenders, context.rounds, context.steps);
    const peaks: number[] = [];
    for (const product of workload.products) {
      peaks.push(productFlops(product) / median(await timeProduct(product, context.quick ? 2 : 7)) / 1e6);
    }
    return report(workload, ours.flops, steps, Math.max(...peaks), reasons, torch, context.quick);
  } finally {
    await opened.close();
  }
}

function report(
  { name, text, promise }: NnWorkload,
  flops: number,
  steps: ReadonlyMap<string, readonly number[]>,
  peak: number,
  reasons: readonly string[],
  torch: PyTorch | null,
  quick: boolean,
): NnResult {
  const mine = steps.get(OURS)!;
  const rate = (ms: number) => flops / ms / 1e6;
  const ratio = (rival: string) => (steps.has(rival) ? speedRatio(mine, steps.get(rival)!) : null);
  // Where unlocking changes nothing, the stock figure is the unlocked one.
  const over = ratio(UNLOCKED) ?? (torch?.unlock.sameAsStock ? ratio(STOCK) : null);
  // Tiny models say nothing about speed.
  const kept = !quick && over && (over.paired >= promise ? "kept" : "missed");
  const section: Section = {
    title: `${name}, one thread`,
    text: [
      `${text}; AdamW with clipping. A step counts as ${whole(flops / 1e6)} MFLOP, those of its products. Medians of ` +
        `rounds in which all take turns; the ratio is of medians, and the median of ratios within rounds.`,
      `The peak of the matrix product here is ${whole(peak)} GFLOP/s; Troupe's step reaches ` +
        `${percent(rate(median(mine)) / peak)} of it. Promised is ${promise} times PyTorch, MKL unlocked${kept ? `: ${kept}` : ""}.`,
      ...reasons.map((reason) => `- ${reason}`),
    ],
    table: {
      columns: ["", "step", "Troupe is", "GFLOP/s"],
      rows: [...steps].map(([who, taken]) => [
        who,
        milliseconds(median(taken)),
        who === OURS ? "–" : times(ratio(who)!),
        whole(rate(median(taken))),
      ]),
    },
  };
  const rounds = Object.fromEntries(steps);
  return {
    sections: [section],
    figures: { [name]: { rounds, peak, shareOfPeak: rate(median(mine)) / peak, overUnlocked: over } },
    versions: torch ? [`PyTorch ${torch.version}`] : [],
  };
}

async function startRival(torch: PyTorch, { rival }: NnWorkload, unlocked: boolean, { folder }: NnContext) {
  if (rival) return startNet(torch, rival, unlocked);
  const data = join(folder, "text.txt");
  writeFileSync(data, (await readDefaultText(files)).bytes);
  const run = { model: GPT_3M, batch: 16, microBatches: 4, data };
  return startRounds(torch, run, { unlocked, compile: false });
}
