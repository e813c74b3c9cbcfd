/**
 * The perceptron that the WebAssembly rivals train, so that all of them compute the same: sizes, initial weights and
 * samples are a function of nothing, the optimiser is plain gradient descent. Losses of a round tell whether they did.
 */

export const SIZES = [784, 512, 512, 10] as const;
export const BATCH = 128;
export const LEARNING_RATE = 0.05;

/** Weights and biases of each layer, [in, out] row by row. */
export function initialLayers(): {
  weight: Float32Array;
  bias: Float32Array;
  inputs: number;
  outputs: number;
}[] {
  return SIZES.slice(1).map((outputs, i) => {
    const inputs = SIZES[i]!;
    const weight = Float32Array.from({ length: inputs * outputs }, (_, at) => noise(at + 7 * i) * 0.1);
    return { weight, bias: new Float32Array(outputs), inputs, outputs };
  });
}

export function samples(): { images: Float32Array; targets: number[] } {
  return {
    images: Float32Array.from({ length: BATCH * SIZES[0] }, (_, at) => noise(at + 1_000_003)),
    targets: Array.from({ length: BATCH }, (_, i) => i % SIZES.at(-1)!),
  };
}

/** Floating-point operations of a step: two in the forward and four in the backward pass for every weight and sample. */
export const STEP_FLOPS =
  6 * BATCH * SIZES.slice(1).reduce<number>((sum, outputs, i) => sum + SIZES[i]! * outputs, 0);

/** In [-0.5, 0.5); of an integer hash. */
function noise(at: number): number {
  let x = Math.imul(at ^ 0x9e3779b9, 0x85ebca6b);
  x = Math.imul(x ^ (x >>> 13), 0xc2b2ae35);
  return ((x ^ (x >>> 16)) >>> 0) / 2 ** 32 - 0.5;
}

/** Answers each number of steps on standard input with their milliseconds and the last loss, until the input ends. */
export async function train(step: () => number | Promise<number>): Promise<void> {
  for (let i = 0; i < WARM_UP; i++) await step();
  process.stdout.write("{}\n");
  for await (const line of console) {
    if (line.trim() === "") continue;
    const times: number[] = [];
    let loss = Number.NaN;
    for (let i = 0; i < Number(line); i++) {
      const began = performance.now();
      loss = await step();
      times.push(performance.now() - began);
    }
    process.stdout.write(`${JSON.stringify({ times, loss })}\n`);
  }
}

const WARM_UP = 3;
