/** A perceptron on WebAssembly: Troupe's web engine beside TensorFlow.js and jax-js, each in a process of its own. */

import { join } from "node:path";
import { ChildError, LineChild, run } from "../child.ts";
import { milliseconds, whole } from "../format.ts";
import rivals from "../rivals/web/package.json";
import { median } from "../statistics.ts";
import { Opened } from "../train/parts.ts";
import type { NnContext, NnResult } from "./parts.ts";
import { BATCH, SIZES, STEP_FLOPS } from "./perceptron.ts";

const FOLDER = join(import.meta.dir, "..", "rivals", "web");

const THREADS = Math.max(1, Math.min(4, navigator.hardwareConcurrency));

interface Contender {
  readonly name: string;
  readonly command: readonly string[];
}

const script = (file: string, ...args: string[]) => [process.execPath, join(import.meta.dir, file), ...args];

const CONTENDERS: readonly Contender[] = [
  { name: "Troupe, 1 thread", command: script("web-troupe.ts", "1") },
  ...(THREADS > 1
    ? [{ name: `Troupe, ${THREADS} threads`, command: script("web-troupe.ts", `${THREADS}`) }]
    : []),
  { name: "TensorFlow.js, 1 thread", command: script("web-tfjs.ts") },
  { name: "jax-js", command: script("web-jax.ts") },
];

export async function web(context: NnContext): Promise<NnResult> {
  await run({ command: [process.execPath, "install", "--frozen-lockfile", "--cwd", FOLDER] });
  const opened = new Opened();
  const absent: string[] = [];
  try {
    const children = new Map<string, LineChild>();
    for (const { name, command } of CONTENDERS) {
      context.note(`web: starting ${name}`);
      try {
        children.set(name, opened.add(await LineChild.start({ command })));
      } catch (error) {
        if (!(error instanceof ChildError)) throw error;
        absent.push(`${name}: skipped, ${error.message.split("\n")[0]}`);
      }
    }
    const times = new Map([...children.keys()].map((name) => [name, [] as number[]]));
    const losses = new Map<string, number>();
    for (let round = 0; round < context.rounds; round++) {
      for (const [name, child] of children) {
        const answer = JSON.parse(await child.ask(`${context.steps}`)) as { times: number[]; loss: number };
        times.get(name)!.push(median(answer.times));
        losses.set(name, answer.loss);
      }
    }
    const ours = [...times.keys()].filter((name) => name.startsWith("Troupe"));
    const ratio = (rival: string, mine: string | undefined) => {
      const pair = mine === undefined ? undefined : times.get(mine);
      if (!pair || rival.startsWith("Troupe")) return "–";
      return median(times.get(rival)!.map((ms, round) => ms / pair[round]!)).toFixed(2);
    };
    return {
      sections: [
        {
          title: "WebAssembly",
          text: [
            `A perceptron of ${SIZES.join("-")}, ${BATCH} samples, plain gradient descent, from the same weights on the same ` +
              "samples: the losses after as many steps have to agree. jax-js takes as many threads as it likes. Ratios are " +
              "medians over rounds of the rival's time over Troupe's.",
            ...absent.map((line) => `- ${line}`),
          ],
          table: {
            columns: ["", "step", "GFLOP/s", "loss at the end", ...ours.map((name) => `over ${name}`)],
            rows: [...times].map(([name, taken]) => [
              name,
              milliseconds(median(taken)),
              whole(STEP_FLOPS / median(taken) / 1e6),
              losses.get(name)!.toFixed(5),
              ...ours.map((mine) => ratio(name, mine)),
            ]),
          },
        },
      ],
      figures: {
        web: { rounds: Object.fromEntries(times), losses: Object.fromEntries(losses), skipped: absent },
      },
      versions: Object.entries(rivals.dependencies)
        .filter(([name]) => name !== "@tensorflow/tfjs-backend-cpu")
        .map(([name, version]) => `${name} ${version}`),
    };
  } finally {
    await opened.close();
  }
}
