/** Tables in Markdown, which are as readable on a terminal as in a file. */

export interface Table {
  readonly columns: readonly string[];
  /** One cell per column. Cells that are numbers stand to the right. */
  readonly rows: readonly (readonly (string | number)[])[];
}

/** @throws RangeError for a row that has not one cell per column. */
export function markdown({ columns, rows }: Table): string {
  for (const row of rows) {
    if (row.length !== columns.length) {
      throw new RangeError(
        `a row has ${row.length} cells, the table ${columns.length} columns: ${row.join(" | ")}`,
      );
    }
  }
  const cells = rows.map((row) => row.map((cell) => `${cell}`.replaceAll("|", "\\|")));
  const right = columns.map((_, i) => rows.length > 0 && rows.every((row) => isFigure(row[i]!)));
  const widths = columns.map((title, i) => Math.max(3, title.length, ...cells.map((row) => row[i]!.length)));
  const line = (row: readonly string[]) =>
    `| ${row.map((cell, i) => (right[i] ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!))).join(" | ")} |`;
  const rule = widths.map((width, i) => (right[i] ? `${"-".repeat(width - 1)}:` : "-".repeat(width)));
  return [line(columns), line(rule), ...cells.map(line)].join("\n");
}

/** Figures, with their units, and the dash of a missing one. */
export function isFigure(cell: string | number): boolean {
  return typeof cell === "number" || /^([-+±]?\d[\d.,]*( ?[%×]| [A-Za-z/]+)?|–)$/.test(cell);
}
