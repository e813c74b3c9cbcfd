/** Tables and the document that results are kept in. */

import { describe, expect, test } from "bun:test";
import { toMarkdown, withSection } from "../../bench/report.ts";
import { markdown } from "../../bench/table.ts";

describe("a Markdown table", () => {
  test("puts figures to the right and names to the left", () => {
    const table = markdown({
      columns: ["name", "step"],
      rows: [
        ["a", "9.50 ms"],
        ["longer name", "120.0 ms"],
        ["none", "–"],
      ],
    });
    expect(table.split("\n")).toEqual([
      "| name        |     step |",
      "| ----------- | -------: |",
      "| a           |  9.50 ms |",
      "| longer name | 120.0 ms |",
      "| none        |        – |",
    ]);
  });
  test("escapes what would end a cell", () => {
    expect(markdown({ columns: ["a"], rows: [["x|y"]] })).toContain("x\\|y");
  });
  test("refuses a row of another length", () => {
    expect(() => markdown({ columns: ["a", "b"], rows: [["x"]] })).toThrow("1 cells");
  });
});

describe("recorded results", () => {
  const header = "# Results\n";
  const first = withSection(header, "train", "one");
  test("add a suite behind the others", () => {
    const both = withSection(first, "memory", "two");
    expect(both.startsWith(first.trimEnd())).toBe(true);
    expect(both).toContain("two");
  });
  test("replace a suite's section and nothing else", () => {
    const both = withSection(first, "memory", "two");
    const again = withSection(both, "train", "three");
    expect(again).toBe(both.replace("one", "three"));
    expect(withSection(again, "train", "one")).toBe(both);
  });
  test("name date, machine, versions and command", () => {
    const text = toMarkdown(
      { title: "T", sections: [{ title: "S", text: ["words"] }], figures: {} },
      { date: "2030-01-02", machine: "2 × m", versions: "v", command: "c" },
    );
    for (const part of ["## T", "2030-01-02", "2 × m", "- Versions: v", "`c`", "### S", "words"]) {
      expect(text).toContain(part);
    }
  });
});
