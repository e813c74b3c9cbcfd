/**
 * Rows of numbers with a class each, read from CSV, and as a feed: `features`, f32 [rows, columns], and `targets`,
 * i64 [rows].
 *
 * One column is the label: the one that is asked for by name, or the last. Its different values are the classes, in
 * the order of numbers where all are numbers and of code units otherwise. All other columns are numbers. The first
 * line is a header when one of its cells, the label's aside, is no number. Features are standardised by the mean and
 * standard deviation of their column over the training rows.
 */

import type { ValueInfo } from "../../nn/onnx/graph.ts";
import { Tensor } from "../../protocols/tensor.ts";
import type { Files } from "../../runtime/platform/files.ts";
import { type CsvRow, parseCsv } from "./csv.ts";
import { DataError } from "./error.ts";
import type { Feed } from "./feed.ts";
import { SampleOrder, splitSamples, validationBatches } from "./samples.ts";

export interface TableData {
  readonly kind: "table";
  /** What was found and where, for people. */
  readonly name: string;
  /** Names of the feature columns; numbers from 1 where there is no header. */
  readonly columns: readonly string[];
  readonly classes: readonly string[];
  /** [rows, columns], as they came. */
  readonly features: Float64Array;
  /** Index of the class of each row. */
  readonly labels: Uint32Array;
  /** Rows that are learned from, and rows that are held out. */
  readonly train: Uint32Array;
  readonly validation: Uint32Array;
}

const isNumber = (cell: string) => cell !== "" && Number.isFinite(Number(cell));

/** How missing values are commonly written. */
const MISSING = /^(|\?|-|na|n\/a|nan|null|none)$/i;

/**
 * @param label name of the label's column; null for the last.
 * @throws FileError, or DataError naming the line and column of a value that is missing or no number, a label column
 *   that there is not or that holds no classes, or a table too small.
 */
export async function readTable(files: Files, path: string, label: string | null): Promise<TableData> {
  const rows = parseCsv(await files.read(path), path);
  const [first] = rows;
  if (!first) throw new DataError("too-few", path, "it is empty; rows of numbers with a label are needed");
  const width = first.cells.length;
  if (width < 2) {
    throw new DataError(
      "unsupported",
      path,
      "it has one column; features and a label, apart by commas, are needed",
    );
  }
  const named = label === null ? width - 1 : first.cells.indexOf(label);
  if (named < 0) {
    const listed = first.cells.slice(0, 20).join(", ");
    throw new DataError("missing", path, `it has no column "${label}"; its first line is: ${listed}`);
  }
  const header =
    label !== null || first.cells.some((cell, i) => i !== named && !isNumber(cell) && !MISSING.test(cell));
  const body = header ? rows.slice(1) : rows;
  if (body.length < 2) {
    throw new DataError("too-few", path, `it has ${body.length} rows of data; two at least are needed`);
  }
  const names = first.cells.map((cell, i) => (header && cell !== "" ? cell : String(i + 1)));
  const { classes, labels } = classesOf(body, named, names[named]!, path);
  const columns = names.filter((_, i) => i !== named);
  const features = new Float64Array(body.length * columns.length);
  let to = 0;
  for (const { line, cells } of body) {
    cells.forEach((cell, i) => {
      if (i !== named) features[to++] = numberIn(cell, line, names[i]!, path);
    });
  }
  return {
    kind: "table",
    name: `a table of ${body.length} rows in ${path}`,
    columns,
    classes,
    features,
    labels,
    ...splitSamples(body.length),
  };
}

function numberIn(cell: string, line: number, column: string, path: string): number {
  if (isNumber(cell)) return Number(cell);
  const where = `line ${line}, column "${column}"`;
  if (MISSING.test(cell)) {
    throw new DataError("missing", path, `${where}: the value is missing; fill it in or leave the line out`);
  }
  const remedy = "features are numbers; leave the column out or give its values numbers";
  throw new DataError("unsupported", path, `${where}: "${cell}" is no number; ${remedy}`);
}

function classesOf(
  body: readonly CsvRow[],
  at: number,
  column: string,
  path: string,
): { classes: string[]; labels: Uint32Array } {
  const found = new Map<string, number>();
  for (const { line, cells } of body) {
    const cell = cells[at]!;
    if (MISSING.test(cell)) {
      throw new DataError("missing", path, `line ${line}: the label, column "${column}", is missing`);
    }
    found.set(cell, line);
  }
  const classes = [...found.keys()];
  const numeric = classes.every(isNumber);
  const fraction = numeric && classes.find((cell) => !Number.isInteger(Number(cell)));
  const example = `column "${column}" holds`;
  const remedy = "a label is the name or the whole number of a class";
  if (fraction) throw new DataError("unsupported", path, `${example} ${fraction} as a label; ${remedy}`);
  if (classes.length === 1) {
    throw new DataError("too-few", path, `${example} ${classes[0]} only; two classes at least are needed`);
  }
  if (classes.length === body.length && body.length > 2) {
    throw new DataError("unsupported", path, `${example} a label of its own in every row; ${remedy}`);
  }
  if (numeric) classes.sort((a, b) => Number(a) - Number(b));
  else classes.sort();
  const index = new Map(classes.map((name, i) => [name, i]));
  return { classes, labels: Uint32Array.from(body, ({ cells }) => index.get(cells[at]!)!) };
}

export interface TableFeedOptions {
  readonly seed: number;
  /** Samples in a micro-batch. */
  readonly rows: number;
  /** Micro-batches in a step. */
  readonly microBatches: number;
}

export class TableFeed implements Feed {
  readonly values: readonly ValueInfo[];
  readonly validationCount: number;
  private readonly data: TableData;
  private readonly options: TableFeedOptions;
  private readonly order: SampleOrder;
  private readonly held: readonly number[][];
  /** All features, standardised. */
  private readonly standard: Float32Array;

  constructor(data: TableData, options: TableFeedOptions) {
    const { rows, seed } = options;
    this.data = data;
    this.options = options;
    this.standard = standardised(data);
    this.order = new SampleOrder(seed, data.train.length);
    this.held = validationBatches(data.validation.length, rows);
    this.validationCount = this.held.length;
    this.values = [
      { name: "features", dtype: "f32", shape: [rows, data.columns.length] },
      { name: "targets", dtype: "i64", shape: [rows] },
    ];
  }

  training(step: number, microBatch: number): Record<string, Tensor> {
    const { rows, microBatches } = this.options;
    const first = (step * microBatches + microBatch) * rows;
    return this.batch(Array.from({ length: rows }, (_, row) => this.data.train[this.order.at(first + row)]!));
  }

  validation(microBatch: number): Record<string, Tensor> {
    return this.batch(this.held[microBatch]!.map((index) => this.data.validation[index]!));
  }

  private batch(samples: readonly number[]): Record<string, Tensor> {
    const width = this.data.columns.length;
    const features = Tensor.zeros("f32", [samples.length, width]);
    const values = features.f32();
    samples.forEach((sample, row) => {
      values.set(this.standard.subarray(sample * width, (sample + 1) * width), row * width);
    });
    return {
      features,
      targets: Tensor.i64(
        [samples.length],
        samples.map((sample) => this.data.labels[sample]!),
      ),
    };
  }
}

/** Features less the mean and over the standard deviation of their column over the training rows. */
function standardised({ columns, features, train }: TableData): Float32Array {
  const width = columns.length;
  const result = new Float32Array(features.length);
  for (let column = 0; column < width; column++) {
    const value = (row: number) => features[row * width + column]!;
    let sum = 0;
    for (const row of train) sum += value(row);
    const mean = sum / train.length;
    let squares = 0;
    for (const row of train) squares += (value(row) - mean) * (value(row) - mean);
    // A column that never varies is only centred.
    const std = Math.sqrt(squares / train.length) || 1;
    for (let at = column; at < features.length; at += width) result[at] = (features[at]! - mean) / std;
  }
  return result;
}
