/**
 * One device, one thread: Troupe in this process, Troupe through its actors and a device process, and PyTorch, taking
 * turns; then the matrix products of each, in turns again, and which share of that peak a step achieves.
 */

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { readDefaultText } from "../../actors/data/corpus.ts";
import { files } from "../../runtime/platform/files.ts";
import { Deployment } from "../deployment.ts";
import { milliseconds, percent, times, whole } from "../format.ts";
import { type Product, productFlops, productsOf, timeProduct } from "../product.ts";
import { findPyTorch, type PyTorch, startProducts, startRounds } from "../pytorch.ts";
import type { Section } from "../report.ts";
import { type Contender, inTurns, type RoundTimes } from "../rounds.ts";
import { median, type SpeedRatio, speedRatio } from "../statistics.ts";
import { FLOPS_FORMULA, openLocal, parametersOf, stepFlops, tokensOf, trainArguments } from "../workload.ts";
import { Opened, type Part, type PartContext } from "./parts.ts";

const OURS = "Troupe, in process";
const ACTORS = "Troupe, one device process";
const STOCK = "PyTorch";
const UNLOCKED = "PyTorch, MKL unlocked";
const COMPILED = "PyTorch, torch.compile";
/** Products in a round, per shape. */
const PRODUCTS = 5;

export const speed: Part = async (context) => {
  const { workload, note } = context;
  const found = await findPyTorch(context.folder);
  const torch = "absent" in found ? null : found;
  const reasons = [
    ...("absent" in found ? [`${STOCK}: skipped, ${found.absent}`] : []),
    ...(torch?.unlock.library === null ? [`${UNLOCKED}: skipped, ${torch.unlock.why}`] : []),
  ];
  for (const reason of reasons) note(reason);

  const steps = await measureSteps(context, torch);
  const products = await measureProducts(context, torch);
  const tokens = tokensOf(workload);
  const flops = stepFlops(workload);
  const ratio = (rival: string): SpeedRatio | null =>
    steps.has(rival) ? speedRatio(steps.get(OURS)!, steps.get(rival)!) : null;
  const stepMs = (name: string) => median(steps.get(name)!);
  const peakOf = (name: string) =>
    Math.max(...products.map(({ product, times }) => gflops(product, times.get(familyOf(name))!)));

  const rows = [...steps.keys()].map((name) => {
    const against = name === OURS ? null : ratio(name);
    return [
      name,
      milliseconds(stepMs(name)),
      whole((tokens / stepMs(name)) * 1000),
      against ? times(against) : "–",
      whole(flops / stepMs(name) / 1e6),
      whole(peakOf(name)),
      percent(flops / stepMs(name) / 1e6 / peakOf(name)),
    ];
  });
  const families = [...products[0]!.times.keys()];
  const sections: Section[] = [
    {
      title: "One device, one thread",
      text: [
        `${parametersOf(workload)} parameters, batch ${workload.batch} in ${workload.microBatches} micro-batches of ` +
          `${workload.model.context} bytes, AdamW with clipping; medians of ${context.rounds} rounds of ` +
          `${context.steps} steps, all contenders taking turns. How many times as fast Troupe in process is: ratio ` +
          "of medians, and median of the ratios within rounds.",
        `A step counts as ${(flops / 1e9).toFixed(1)} GFLOP: ${FLOPS_FORMULA}. The peak is that of the fastest of ` +
          "the products below, in the same run.",
        ...(reasons.length > 0 ? [reasons.map((reason) => `- ${reason}`).join("\n")] : []),
      ],
      table: {
        columns: ["", "step", "tokens/s", "Troupe is", "GFLOP/s", "peak", "of peak"],
        rows,
      },
    },
    {
      title: "Matrix products, one thread, GFLOP/s",
      text: [],
      table: {
        columns: ["product", "m, k, n", ...families],
        rows: products.map(({ product, times: byName }) => [
          product.name,
          `${product.m}, ${product.k}, ${product.n}${product.transA ? " (A transposed)" : ""}`,
          ...families.map((name) => whole(gflops(product, byName.get(name)!))),
        ]),
      },
    },
  ];
  return {
    sections,
    figures: {
      oneDevice: [...steps].map(([name, rounds]) => ({
        name,
        stepMs: median(rounds),
        tokensPerSecond: (tokens / median(rounds)) * 1000,
        shareOfPeak: flops / median(rounds) / 1e6 / peakOf(name),
        rounds,
      })),
      overStock: ratio(STOCK),
      // Where unlocking changes nothing, the stock figure is the unlocked one.
      overUnlocked: ratio(UNLOCKED) ?? (torch?.unlock.sameAsStock ? ratio(STOCK) : null),
      products: products.map(({ product, times: byName }) => ({
        ...product,
        gflops: Object.fromEntries([...byName].map(([name, rounds]) => [name, gflops(product, rounds)])),
      })),
      skipped: reasons,
    },
    versions: torch ? [`PyTorch ${torch.version}`] : [],
  };
};

async function measureSteps(context: PartContext, torch: PyTorch | null): Promise<RoundTimes> {
  const { workload, rounds, steps, note } = context;
  const opened = new Opened();
  try {
    note("one device: starting the contenders");
    const text = await readDefaultText(files);
    const contenders: Contender[] = [];

    const ours = opened.add(await openLocal(workload, text));
    const ownSteps = (count: number) => ours.steps(count);
    contenders.push({ name: OURS, work: ownSteps });

    const out = join(context.folder, "single");
    const args = [...trainArguments(workload), "--strategy", "single", "--out", out];
    const deployment = opened.add(await Deployment.open(args));
    const actorSteps = async (count: number) => (await deployment.steps(count)).map(({ ms }) => ms);
    contenders.push({ name: ACTORS, work: actorSteps });

    if (torch) {
      const data = join(context.folder, "text.txt");
      writeFileSync(data, text.bytes);
      const unlocked = torch.unlock.library !== null;
      const rivals = [
        { name: STOCK, unlocked: false, compile: false },
        ...(unlocked ? [{ name: UNLOCKED, unlocked, compile: false }] : []),
        ...(context.compile ? [{ name: COMPILED, unlocked, compile: true }] : []),
      ];
      for (const { name, ...options } of rivals) {
        const child = opened.add(await startRounds(torch, { ...workload, data }, options));
        const { parameters } = JSON.parse(child.greeting) as { parameters: number };
        if (parameters !== parametersOf(workload)) {
          throw new RangeError(`${name} has ${parameters} parameters, Troupe has ${parametersOf(workload)}`);
        }
        contenders.push({ name, work: async (count) => JSON.parse(await child.ask(`${count}`)) });
      }
    }
    // PyTorch has warmed up before it says that it is ready.
    await ownSteps(3);
    await actorSteps(3);
    note(`one device: ${rounds} rounds of ${steps} steps, ${contenders.length} contenders`);
    return await inTurns(contenders, rounds, steps);
  } finally {
    await opened.close();
  }
}

interface MeasuredProduct {
  readonly product: Product;
  readonly times: RoundTimes;
}

async function measureProducts(context: PartContext, torch: PyTorch | null): Promise<MeasuredProduct[]> {
  const opened = new Opened();
  try {
    context.note("matrix products");
    const rivals = torch
      ? [
          { name: STOCK, child: opened.add(await startProducts(torch, false)) },
          ...(torch.unlock.library
            ? [{ name: UNLOCKED, child: opened.add(await startProducts(torch, true)) }]
            : []),
        ]
      : [];
    const measured: MeasuredProduct[] = [];
    for (const product of productsOf(context.workload)) {
      const contenders: Contender[] = [
        { name: "Troupe", work: (repeats) => timeProduct(product, repeats) },
        ...rivals.map(({ name, child }) => ({
          name,
          work: async (repeats: number) =>
            JSON.parse(await child.ask(JSON.stringify({ ...product, repeats }))),
        })),
      ];
      measured.push({ product, times: await inTurns(contenders, context.rounds, PRODUCTS) });
    }
    return measured;
  } finally {
    await opened.close();
  }
}

/** Whose products a contender's step is held against. */
function familyOf(contender: string): string {
  if (contender.startsWith("Troupe")) return "Troupe";
  return contender === COMPILED ? STOCK : contender;
}

function gflops(product: Product, rounds: readonly number[]): number {
  return productFlops(product) / median(rounds) / 1e6;
}
