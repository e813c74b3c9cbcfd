import { describe, expect, test } from "bun:test";
import { parseCsv } from "../../../actors/data/csv.ts";
import { readTable, TableFeed } from "../../../actors/data/table.ts";
import { memoryFiles, refusal } from "./memory.ts";

const cells = (text: string) => parseCsv(new TextEncoder().encode(text), "t.csv").map((row) => row.cells);
const read = (text: string, label: string | null = null) =>
  readTable(memoryFiles({ "t.csv": text }), "t.csv", label);

describe("CSV", () => {
  test("cells in quotes hold separators, quotes and line ends", () => {
    expect(cells('a,"b,c"\r\n"say ""hi""", d \n\n"two\nlines",""\n')).toEqual([
      ["a", "b,c"],
      ['say "hi"', "d"],
      ["two\nlines", ""],
    ]);
  });

  test("semicolons and tabs separate where the first line has them; a byte order mark is none of the text", () => {
    expect(cells("\uFEFFx;y\n1,5;2")).toEqual([
      ["x", "y"],
      ["1,5", "2"],
    ]);
    expect(cells("x\ty\n1\t2")).toEqual([
      ["x", "y"],
      ["1", "2"],
    ]);
  });

  test("an empty cell at the end of a line is a cell", () => {
    expect(cells("a,b\n1,\n")).toEqual([
      ["a", "b"],
      ["1", ""],
    ]);
  });
});

const IRIS = "length,width,kind\n1,10,setosa\n3,10,virginica\n5,10,setosa\n7,10,virginica\n";

test("with a header: columns by name, classes in order, the last column is the label", async () => {
  const data = await read(IRIS);
  expect([data.columns, data.classes]).toEqual([
    ["length", "width"],
    ["setosa", "virginica"],
  ]);
  expect([...data.features]).toEqual([1, 10, 3, 10, 5, 10, 7, 10]);
  expect([...data.labels]).toEqual([0, 1, 0, 1]);
  expect([...data.train, ...data.validation].sort()).toEqual([0, 1, 2, 3]);
});

test("without a header; labels that are numbers are in their order", async () => {
  const data = await read("1,2,10\n3,4,9\n5,6,10\n");
  expect([data.columns, data.classes, [...data.labels]]).toEqual([
    ["1", "2"],
    ["9", "10"],
    [1, 0, 1],
  ]);
});

test("the label may be any column, by name", async () => {
  const data = await read('"the class",x\na,1\nb,2\na,3\n', "the class");
  expect([data.columns, data.classes, [...data.features]]).toEqual([["x"], ["a", "b"], [1, 2, 3]]);
});

describe("what is wrong is said in one line, with its place", () => {
  const cases: [string, string, string | null, RegExp][] = [
    ["a missing value", "a,b,c\n1,2,x\n3,,y\n", null, /t.csv: line 3, column "b": the value is missing/],
    [
      "a value written as missing",
      "a,b,c\n1,2,x\n3,NA,y\n",
      null,
      /line 3, column "b": the value is missing/,
    ],
    ["text among numbers", "a,b,c\n1,2,x\n3,red,y\n", null, /line 3, column "b": "red" is no number/],
    ["a missing label", "a,b\n1,x\n2,\n", null, /line 3: the label, column "b", is missing/],
    [
      "a short line, after one of two lines",
      'a,b\n1,"x\ny"\n2\n',
      null,
      /line 4 has 1 cells, the first has 2/,
    ],
    ["a quote never closed", 'a,b\n1,"x\n2,y\n', null, /line 2: a quote is opened and never closed/],
    ["text after a quote", 'a,b\n"1"0,x\n', null, /line 2: "0" follows a closing quote/],
    ["no such column", IRIS, "species", /no column "species"; its first line is: length, width, kind/],
    ["labels with fractions", "1,0.5\n2,0.5\n3,1\n", null, /column "2" holds 0.5 as a label/],
    ["a label for each row", "1,a\n2,b\n3,c\n", null, /holds a label of its own in every row/],
    ["one class", "1,a\n2,a\n", null, /column "2" holds a only; two classes at least/],
    ["no rows", "a,b\n", null, /it has 0 rows of data/],
    ["nothing", "", null, /it is empty/],
    ["one column", "1\n2\n", null, /it has one column/],
  ];
  test.each(cases)("%s", async (_, text, label, message) => {
    expect(await refusal(read(text, label))).toMatch(message);
  });

  test("no UTF-8", async () => {
    const files = memoryFiles({ "t.csv": Uint8Array.of(0x61, 0xff, 0xfe) });
    expect(await refusal(readTable(files, "t.csv", null))).toMatch(/t.csv: it is not UTF-8/);
  });
});

describe("the feed", () => {
  const lines = Array.from({ length: 30 }, (_, i) => `${i},${100 - 3 * i},5,${i % 3}`);
  const feed = async (seed: number) =>
    new TableFeed(await read(lines.join("\n")), { seed, rows: 3, microBatches: 3 });

  test("standardises each column over the training rows; a column that never varies becomes zero", async () => {
    const one = await feed(1);
    expect(one.values).toEqual([
      { name: "features", dtype: "f32", shape: [3, 3] },
      { name: "targets", dtype: "i64", shape: [3] },
    ]);
    // 27 training rows are one epoch of three steps.
    const rows = [0, 1, 2].flatMap((step) =>
      [0, 1, 2].flatMap((microBatch) => [...one.training(step, microBatch).features!.f32()]),
    );
    for (const column of [0, 1, 2]) {
      const values = rows.filter((_, i) => i % 3 === column);
      const mean = values.reduce((a, b) => a + b) / 27;
      const square = values.reduce((a, b) => a + b * b, 0) / 27;
      expect(mean).toBeCloseTo(0, 5);
      expect(square).toBeCloseTo(column === 2 ? 0 : 1, 5);
    }
  });

  test("gives the same for the same seed and step, features with their own labels", async () => {
    const [one, again, other] = [await feed(1), await feed(1), await feed(2)];
    expect(one.training(4, 1)).toEqual(again.training(4, 1));
    expect(one.training(4, 1)).not.toEqual(other.training(4, 1));
    expect(one.validation(0)).toEqual(other.validation(0));
    expect(one.validationCount).toBe(1);
  });

  test("gives features with their own labels", async () => {
    // The first column is the row's number, standardised; the label is that number modulo 3.
    const { train } = await read(lines.join("\n"));
    const mean = train.reduce((a, b) => a + b) / 27;
    const std = Math.sqrt(train.reduce((a, b) => a + (b - mean) ** 2, 0) / 27);
    const { features, targets } = (await feed(1)).training(2, 1);
    const numbers = [0, 3, 6].map((at) => Math.round(features!.f32()[at]! * std + mean) + 0);
    expect([...targets!.i64()].map(Number)).toEqual(numbers.map((number) => number % 3));
  });
});
