/**
 * Convolutions of the shapes that ResNet-18 has over small images: the forward pass and both gradients as the rules
 * write them, beside other ways to write the gradients and beside PyTorch, one thread each. This is what the rules
 * were chosen by.
 */

import { differentiate } from "../../nn/autodiff/gradient.ts";
import { createEngine } from "../../nn/engine/create.ts";
import type { Engine } from "../../nn/engine/engine.ts";
import { GraphBuilder } from "../../nn/onnx/builder.ts";
import { extract } from "../../nn/onnx/extract.ts";
import { float, type Graph } from "../../nn/onnx/graph.ts";
import { milliseconds } from "../format.ts";
import { findPyTorch, startConvolutions } from "../pytorch.ts";
import { type Contender, inTurns } from "../rounds.ts";
import { median } from "../statistics.ts";
import type { NnContext, NnResult } from "./parts.ts";

interface Shape {
  readonly images: number;
  /** Channels. */
  readonly read: number;
  readonly written: number;
  readonly size: number;
  readonly kernel: number;
  readonly stride: number;
}

const shape = (read: number, written: number, size: number, kernel: number, stride: number): Shape => {
  return { images: 16, read, written, size, kernel, stride };
};

const SHAPES: readonly Shape[] = [
  shape(3, 64, 32, 3, 1),
  shape(64, 64, 32, 3, 1),
  shape(64, 128, 32, 3, 2),
  shape(64, 128, 32, 1, 2),
  shape(128, 128, 16, 3, 1),
  shape(256, 256, 8, 3, 1),
  shape(512, 512, 4, 3, 1),
];
const QUICK: readonly Shape[] = [{ images: 2, read: 4, written: 4, size: 6, kernel: 3, stride: 1 }];

const PARTS = ["result", "image", "weights"] as const;
type Part = (typeof PARTS)[number];

const side = ({ size, stride }: Shape) => Math.ceil(size / stride);
const attributes = ({ kernel, stride }: Shape) => {
  const margin = Math.floor(kernel / 2);
  return {
    kernel_shape: [kernel, kernel],
    strides: [stride, stride],
    pads: [margin, margin, margin, margin],
  };
};

/** A builder with the image, the weights and the gradient of the result. */
function inputs(s: Shape): GraphBuilder {
  const b = new GraphBuilder("convolution");
  b.input("x", "f32", [s.images, s.read, s.size, s.size]);
  b.input("w", "f32", [s.written, s.read, s.kernel, s.kernel]);
  return b;
}

/** The graph that training has for one part. */
function asRules(s: Shape, part: Part): Graph {
  const b = inputs(s);
  b.output(b.op("Conv", ["x", "w"], attributes(s), "y"));
  const graph = b.build();
  if (part === "result") return graph;
  const name = part === "image" ? "x" : "w";
  const joint = differentiate(graph, { y: "dy" }, [name]);
  const given = [...graph.inputs, { name: "dy", ...joint.builder.type("dy") }];
  return extract(joint.builder.build(), given, [joint.gradients.get(name)!]);
}

/** The gradient of the image by the operator that is made for it. */
function byConvTranspose(s: Shape): Graph {
  const b = inputs(s);
  const dy = b.input("dy", "f32", [s.images, s.written, side(s), side(s)]);
  const left = (s.size + 2 * Math.floor(s.kernel / 2) - s.kernel) % s.stride;
  b.output(b.op("ConvTranspose", [dy, "w"], { ...attributes(s), output_padding: [left, left] }));
  return b.build();
}

/** The gradient of the weights with the patches sliced out tap by tap, as im2col is usually written in ONNX. */
function bySlices(s: Shape): Graph {
  const b = inputs(s);
  const [out, taps, margin] = [side(s), s.kernel ** 2, Math.floor(s.kernel / 2)];
  const dy = b.input("dy", "f32", [s.images, s.written, out, out]);
  const padded = b.op("Pad", ["x", b.ints([0, 0, margin, margin, 0, 0, margin, margin])]);
  const turned = b.op("Transpose", [padded], { perm: [1, 0, 2, 3] });
  const steps = [b.ints([2, 3]), b.ints([s.stride, s.stride])];
  const slices = Array.from({ length: taps }, (_, tap) => {
    const from = [Math.floor(tap / s.kernel), tap % s.kernel];
    const to = from.map((at) => at + (out - 1) * s.stride + 1);
    const slice = b.op("Slice", [turned, b.ints(from), b.ints(to), ...steps]);
    return b.op("Unsqueeze", [slice, b.ints([1])]);
  });
  const pixels = s.images * out * out;
  const patches = b.op("Concat", slices, { axis: 1 });
  const right = b.op("Reshape", [patches, b.ints([s.read * taps, pixels])]);
  const results = b.op("Transpose", [dy], { perm: [1, 0, 2, 3] });
  const left = b.op("Reshape", [results, b.ints([s.written, pixels])]);
  const product = b.op("Gemm", [left, right], { alpha: float(1), beta: float(0), transB: 1 });
  b.output(b.op("Reshape", [product, b.ints([s.written, s.read, s.kernel, s.kernel])]));
  return b.build();
}

/** Runs a graph over random values; what it holds goes with the engine. */
async function contender(engine: Engine, name: string, graph: Graph): Promise<Contender> {
  const executable = await engine.compile(graph);
  const allocate = (values: Graph["inputs"]) =>
    Object.fromEntries(values.map((value) => [value.name, engine.allocate(value.dtype, value.shape)]));
  const feeds = allocate(executable.inputs);
  for (const { tensor } of Object.values(feeds)) {
    const values = tensor.f32();
    for (let i = 0; i < values.length; i++) values[i] = ((i * 7919) % 1000) / 1000 - 0.5;
  }
  const binding = executable.bind(feeds, allocate(executable.outputs));
  await binding.run();
  return {
    name,
    work: async (count) => {
      const times: number[] = [];
      for (let i = 0; i < count; i++) times.push(await binding.run());
      return times;
    },
  };
}

export async function convolution({ rounds, steps, quick, folder, note }: NnContext): Promise<NnResult> {
  const torch = await findPyTorch(folder);
  const rival = "absent" in torch ? null : await startConvolutions(torch, torch.unlock.library !== null);
  const rows: (string | number)[][] = [];
  const figures: object[] = [];
  try {
    for (const each of quick ? QUICK : SHAPES) {
      const name = `${each.read} → ${each.written}, ${each.kernel}x${each.kernel}, ${each.size}x${each.size}, stride ${each.stride}`;
      note(`convolution: ${name}`);
      for (const part of PARTS) {
        const engine = await createEngine();
        try {
          const contenders = [await contender(engine, "ours", asRules(each, part))];
          if (part === "image") contenders.push(await contender(engine, "other", byConvTranspose(each)));
          if (part === "weights") contenders.push(await contender(engine, "other", bySlices(each)));
          if (rival) {
            const ask = (repeats: number) => rival.ask(JSON.stringify({ ...each, what: part, repeats }));
            contenders.push({ name: "PyTorch", work: async (count) => JSON.parse(await ask(count)) });
          }
          const times = await inTurns(contenders, rounds, steps);
          const of = (who: string) => (times.has(who) ? median(times.get(who)!) : null);
          const [ours, other, theirs] = [of("ours")!, of("other"), of("PyTorch")];
          const flops = 2 * each.images * each.written * side(each) ** 2 * each.read * each.kernel ** 2;
          figures.push({ ...each, part, flops, ms: ours, otherMs: other, pytorchMs: theirs });
          const shown = (ms: number | null) => (ms === null ? "–" : milliseconds(ms));
          const rate = `${(flops / ours / 1e6).toFixed(0)} GFLOP/s`;
          const ratio = theirs === null ? "–" : (theirs / ours).toFixed(2);
          rows.push([name, part, shown(ours), rate, shown(other), shown(theirs), ratio]);
        } finally {
          await engine.close();
        }
      }
    }
  } finally {
    await rival?.close();
  }
  return {
    sections: [
      {
        title: "Convolutions",
        text: [
          "Forward pass, gradient of the image and gradient of the weights over 16 images, as the gradient rules write them. " +
            "The other way is ConvTranspose for the image, and for the weights patches sliced out tap by tap.",
          ...("absent" in torch ? [`Without PyTorch: ${torch.absent}.`] : []),
        ],
        table: {
          columns: ["shape", "part", "ours", "rate", "the other way", "PyTorch", "times as fast as PyTorch"],
          rows,
        },
      },
    ],
    figures: { convolutions: figures },
    versions: "absent" in torch ? [] : [`PyTorch ${torch.version}`],
  };
}
