/**
 * Models that are built in and learn classes, by name: what they learn from, which settings they have, and the model
 * for the values that a feed gives. A name and its settings are all that a command line, a plan or a checkpoint has
 * to hold.
 */

import type { Model } from "../model.ts";
import { GraphError, type ValueInfo } from "../onnx/graph.ts";
import { type MlpConfig, mlp } from "./mlp.ts";
import { type ResnetConfig, resnet } from "./resnet.ts";
import { type VggConfig, vgg, vggInputSize } from "./vgg.ts";
import { vit } from "./vit.ts";

/** Settings that may be given; each model has some of them, and a value of its own for those that are not given. */
export interface ModelSettings {
  /** Channels of the first group or stack; of a vision transformer, the width of its residual stream. */
  readonly width?: number;
  /** Layers of a vision transformer. */
  readonly layers?: number;
  /** Attention heads of a vision transformer. */
  readonly heads?: number;
  /** Side of a vision transformer's patches. */
  readonly patch?: number;
  /** Width of each hidden layer of a perceptron. */
  readonly hidden?: readonly number[];
  /** What stands between the layers of a perceptron. */
  readonly activation?: MlpConfig["activation"];
  /** Share of hidden units that a VGG drops in training. */
  readonly dropout?: number;
}

type Setting = keyof ModelSettings;

/** What a model is to be made for. */
interface Wanted {
  /** Sizes of a sample: [features] or [channels, height, width]. */
  readonly sample: readonly number[];
  readonly rows: number;
  readonly classes: number;
}

interface Entry {
  /** For a list of models. */
  readonly about: string;
  /** Data inputs that it can be made for. */
  readonly learns: readonly ("images" | "features")[];
  /** Which settings it has, and their values where none is given. */
  readonly settings: (side: number) => ModelSettings;
  /** The side that images of side `side` are to be brought to. */
  readonly inputSize: (side: number, settings: ModelSettings) => number;
  readonly make: (settings: Required<ModelSettings>, wanted: Wanted) => Model;
}

/** Images of one channel or three, and square. */
const image = ({ sample: [channels, side], classes }: Wanted) => {
  return { channels: channels!, inputSize: side!, classes };
};

const asItIs = (side: number) => side;

const resnetEntry = (depth: ResnetConfig["depth"]): Entry => ({
  about: `ResNet-${depth}: residual network of ${depth} layers`,
  learns: ["images"],
  settings: () => ({ width: 64 }),
  inputSize: asItIs,
  make: ({ width }, wanted) => resnet({ depth, width, ...image(wanted) }, wanted.rows),
});

const vggEntry = (depth: VggConfig["depth"], batchNorm: boolean): Entry => ({
  about: `VGG-${depth}${batchNorm ? " with batch normalisation" : ""}`,
  learns: ["images"],
  settings: () => ({ width: 64, dropout: 0.5 }),
  inputSize: vggInputSize,
  make: ({ width, dropout }, wanted) =>
    vgg({ depth, width, batchNorm, dropout, ...image(wanted) }, wanted.rows),
});

const CATALOGUE = {
  mlp: {
    about: "multilayer perceptron, of images or of the rows of a table",
    learns: ["features", "images"],
    settings: () => ({ hidden: [256], activation: "relu" }),
    inputSize: asItIs,
    make: ({ hidden, activation }, { sample, classes, rows }) =>
      mlp({ sample, hidden, classes, activation }, rows),
  },
  resnet18: resnetEntry(18),
  resnet34: resnetEntry(34),
  resnet50: resnetEntry(50),
  resnet101: resnetEntry(101),
  vgg11: vggEntry(11, false),
  vgg11_bn: vggEntry(11, true),
  vgg16: vggEntry(16, false),
  vgg16_bn: vggEntry(16, true),
  vit: {
    about: "vision transformer",
    learns: ["images"],
    // As many patches, roughly, for small images as for large ones.
    settings: (side) => ({ layers: 6, width: 192, heads: 3, patch: side <= 64 ? 4 : 16 }),
    inputSize: (side, { patch }) => patch! * Math.ceil(side / patch!),
    make: ({ layers, width, heads, patch }, wanted) =>
      vit({ layers, width, heads, patch, ...image(wanted) }, wanted.rows),
  },
} as const satisfies Readonly<Record<string, Entry>>;

export type ModelName = keyof typeof CATALOGUE;

export const MODEL_NAMES = Object.keys(CATALOGUE) as readonly ModelName[];

export const isModelName = (name: string): name is ModelName => Object.hasOwn(CATALOGUE, name);

/** What a model is, in a few words. */
export const aboutModel = (name: ModelName): string => CATALOGUE[name].about;

/** Names of the data inputs that a model can be made for, the preferred first. */
export const learnsFrom = (name: ModelName): readonly ("images" | "features")[] => CATALOGUE[name].learns;

/**
 * All settings of a model: those given, and its own for the rest.
 * @param side of the images that it is to learn from; of no matter for tables.
 * @throws GraphError for a setting that the model does not have.
 */
export function settingsOf(name: ModelName, given: ModelSettings, side: number): ModelSettings {
  const own: ModelSettings = CATALOGUE[name].settings(side);
  for (const [setting, value] of Object.entries(given)) {
    if (value === undefined || own[setting as Setting] !== undefined) continue;
    const known = Object.keys(own).join(", ");
    throw new GraphError(`${name} has no setting "${setting}"; it has ${known}`);
  }
  const set = Object.entries(given).filter(([, value]) => value !== undefined);
  return { ...own, ...Object.fromEntries(set) };
}

/**
 * The side that square images of side `side` are to be brought to for a model: `side` where it takes that.
 * @throws GraphError for a setting that the model does not have.
 */
export function inputSizeFor(name: ModelName, given: ModelSettings, side: number): number {
  return CATALOGUE[name].inputSize(side, settingsOf(name, given, side));
}

/**
 * The model for a feed.
 * @param values what the feed gives: `images` f32 [rows, channels, side, side] or `features` f32 [rows, columns].
 * @throws GraphError for a setting that the model does not have, values that it does not learn from, or settings that
 *   do not fit each other or the values.
 */
export function modelNamed(
  name: ModelName,
  given: ModelSettings & { readonly classes: number },
  values: readonly ValueInfo[],
): Model {
  const { about: _, learns, make }: Entry = CATALOGUE[name];
  const input = values.find((value) => learns.some((known) => known === value.name));
  if (!input) {
    const found = values.map((value) => value.name).join(", ") || "nothing";
    throw new GraphError(`${name} learns from ${learns.join(" or ")}; the data has ${found}`);
  }
  const [rows, ...sample] = input.shape as [number, ...number[]];
  if (sample.length === 3 && sample[1] !== sample[2]) {
    throw new GraphError(`${name} takes square images; these are ${sample[2]}x${sample[1]}`);
  }
  const { classes, ...settings } = given;
  const all = settingsOf(name, settings, sample.at(-1)!) as Required<ModelSettings>;
  return make(all, { sample, rows, classes });
}
