/**
 * Power of NVIDIA's graphics cards, as `nvidia-smi` reports it: one run says which cards there are, and one that goes on
 * gives their power several times a second until the sensor is released.
 */

import type { Child } from "./children.ts";
import { PowerIntegral } from "./power-sampling.ts";
import { type OpenSensor, PowerError, type PowerWorld } from "./power-sensor.ts";

const QUERY = ["nvidia-smi", "--query-gpu=index,name,power.draw", "--format=csv,noheader,nounits"] as const;

/** Cards renew their measurement about ten times a second. */
const EVERY_MS = 200;

/** A driver that does not answer by then is not waited for. */
const PATIENCE_MS = 10_000;

export interface GpuPower {
  readonly index: string;
  readonly name: string;
  /** Undefined for a card that cannot say. */
  readonly watts: number | undefined;
}

/** A line `0, NVIDIA GeForce RTX 3080, 98.76`; undefined for any other. Names may have commas. */
export function parseGpuPower(line: string): GpuPower | undefined {
  const [, index, name, draw] = /^\s*(\d+)\s*,\s*(.*?)\s*,\s*([^,]+?)\s*$/.exec(line) ?? [];
  if (index === undefined) return undefined;
  return { index, name: name!, watts: /^\d+(\.\d+)?$/.test(draw!) ? Number(draw) : undefined };
}

export const openNvidia: OpenSensor = async (world) => {
  const missing = (reason: string) => ({ source: "nvidia", reason }) as const;
  const { lines, how } = await runOnce(world);
  const cards = lines.flatMap((line) => parseGpuPower(line) ?? []);
  if (how === undefined) return missing("nvidia-smi does not answer");
  if (cards.length === 0) {
    const said = lines.find((line) => line.trim() !== "");
    return missing(said ? `nvidia-smi says: ${said.trim()}` : `nvidia-smi cannot be run: ${how}`);
  }
  const silent = cards.find(({ watts }) => watts === undefined);
  if (silent) return missing(`${silent.name} does not say its power`);

  const { clock } = world;
  const integrals = new Map(cards.map(({ index }) => [index, new PowerIntegral()]));
  let failure: string | undefined;
  const take = (card: GpuPower) => {
    if (card.watts === undefined) failure ??= `${card.name} says its power no more`;
    else integrals.get(card.index)?.add(card.watts, clock.now());
  };
  for (const card of cards) take(card);
  const child = start(world, [...QUERY, `--loop-ms=${EVERY_MS}`], (line) => {
    const card = parseGpuPower(line);
    if (card) take(card);
  });
  child.ended.then((ended) => {
    failure ??= `nvidia-smi has ended: ${ended}`;
  });
  return {
    source: "nvidia",
    scope: "gpu",
    what: cards.map(({ index, name }) => `GPU ${index}, ${name}`).join("; "),
    joules: async () => {
      if (failure !== undefined) throw new PowerError(failure);
      return [...integrals.values()].reduce((sum, integral) => sum + integral.joules(clock.now()), 0);
    },
    // It does not listen to its input.
    release: () => child.end(0),
  };
};

/** All it says, and how it ended; undefined when it had to be ended. */
async function runOnce(world: PowerWorld): Promise<{ lines: string[]; how: string | undefined }> {
  const lines: string[] = [];
  const child = start(world, QUERY, (line) => lines.push(line));
  const { clock } = world;
  let late = false;
  const timer = clock.setTimer(() => {
    late = true;
    child.end(0);
  }, PATIENCE_MS);
  const how = await child.ended;
  clock.clearTimer(timer);
  return { lines, how: late ? undefined : how };
}

function start(
  { startChild }: PowerWorld,
  command: readonly [string, ...string[]],
  onOutput: (line: string) => void,
): Child {
  return startChild({ command, environment: {}, onOutput, onError: () => {} });
}
