import { describe, expect, test } from "bun:test";
import { nearest } from "../../cli/nearest.ts";
import { bar, bytes, count, duration, painter, percent, table } from "../../cli/terminal.ts";

describe("numbers as people read them", () => {
  test.each([
    [count(0), "0"],
    [count(999), "999"],
    [count(999.6), "1.0 k"],
    [count(12_340), "12.3 k"],
    [count(3_300_000), "3.3 M"],
    [bytes(512), "512 B"],
    [bytes(265_000_000), "265 MB"],
    [bytes(1_500_000_000), "1.5 GB"],
    [duration(4600), "0:05"],
    [duration(123_000), "2:03"],
    [duration(3_723_000), "1:02:03"],
    [percent(0.034), "3.4 %"],
    [percent(0.87), "87 %"],
  ])("%s", (shown, expected) => expect(shown).toBe(expected));
});

test("a bar has its width at any share, and fills by eighths", () => {
  for (const share of [-1, 0, 0.01, 0.33, 0.5, 0.999, 1, 2]) expect([...bar(share, 10)]).toHaveLength(10);
  expect(bar(0, 4)).toBe("░░░░");
  expect(bar(0.5, 4)).toBe("██░░");
  expect(bar(0.5 + 1 / 32, 4)).toBe("██▏░");
  expect(bar(1, 4)).toBe("████");
});

test("a table aligns its columns and ends no line in spaces", () => {
  const columns = [
    { title: "device", align: "left" },
    { title: "ms", align: "right" },
    { title: "why", align: "left" },
  ] as const;
  const rows = [
    ["a", "10.5", "fast"],
    ["longer-name", "9", ""],
  ];
  expect(table(columns, rows, painter({ colours: false }))).toEqual([
    "  device         ms  why",
    "  a            10.5  fast",
    "  longer-name     9",
  ]);
});

test("colours are there only where they are wanted", () => {
  expect(painter({ colours: true })("red", "no")).toBe("\x1b[31mno\x1b[39m");
  expect(painter({ colours: false })("red", "no")).toBe("no");
});

test("the nearest word is the one with the fewest edits", () => {
  expect(nearest("stpes", ["seed", "steps", "sample"])).toBe("steps");
  expect(nearest("bach", ["beta1", "batch"])).toBe("batch");
  expect(nearest("x", [])).toBeUndefined();
});
