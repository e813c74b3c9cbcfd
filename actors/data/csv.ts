/**
 * CSV as a table of text (RFC 4180, and what goes by the name): cells between commas, semicolons or tabs, told by the
 * first line; a cell in quotes may hold separators, line ends and doubled quotes; lines end in LF or CRLF; empty
 * lines are passed over.
 */

import { DataError } from "./error.ts";

export interface CsvRow {
  /** The line of the file that it begins in, counted from 1. */
  readonly line: number;
  readonly cells: readonly string[];
}

const SEPARATORS = [",", ";", "\t"] as const;

/**
 * @param path for the errors.
 * @throws DataError when it is not UTF-8, a quote is never closed or something follows it, or a row is shorter or
 *   longer than the first.
 */
export function parseCsv(bytes: Uint8Array, path: string): CsvRow[] {
  const text = decoded(bytes, path);
  const separator = separatorOf(text);
  const rows: CsvRow[] = [];
  let at = 0;
  let line = 1;
  while (at < text.length) {
    const row: string[] = [];
    const first = line;
    let more = true;
    while (more) {
      let cell = "";
      if (text[at] === '"') {
        const quoted = readQuoted(text, at, path, first);
        at = quoted.end;
        cell = quoted.value;
        line += quoted.lines;
        if (at < text.length && text[at] !== separator && text[at] !== "\n" && text[at] !== "\r") {
          throw new DataError(
            "corrupt",
            path,
            `line ${line}: "${text[at]}" follows a closing quote; write a quote within a cell twice`,
          );
        }
      } else {
        const start = at;
        while (at < text.length && text[at] !== separator && text[at] !== "\n" && text[at] !== "\r") at++;
        cell = text.slice(start, at).trim();
      }
      row.push(cell);
      more = text[at] === separator;
      if (more) at++;
    }
    if (text[at] === "\r") at++;
    if (text[at] === "\n") at++;
    line++;
    if (row.length > 1 || row[0] !== "") rows.push({ line: first, cells: row });
  }
  const width = rows[0]?.cells.length ?? 0;
  for (const { line: where, cells } of rows) {
    if (cells.length === width) continue;
    const what = `line ${where} has ${cells.length} cells, the first has ${width}`;
    throw new DataError("corrupt", path, `${what}; every line needs as many`);
  }
  return rows;
}

function decoded(bytes: Uint8Array, path: string): string {
  try {
    // Drops a byte order mark.
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    throw new DataError("corrupt", path, "it is not UTF-8 text; save it as CSV in UTF-8");
  }
}

/** The separator that the first line has most of, outside quotes; a comma where it has none. */
function separatorOf(text: string): string {
  const end = text.search(/[\r\n]/);
  const line = (end < 0 ? text : text.slice(0, end)).replace(/"[^"]*"/g, "");
  const count = (separator: string) => line.split(separator).length;
  return SEPARATORS.reduce((best, other) => (count(other) > count(best) ? other : best));
}

/** The cell whose opening quote is at `at`. */
function readQuoted(
  text: string,
  at: number,
  path: string,
  line: number,
): { value: string; end: number; lines: number } {
  let value = "";
  let from = at + 1;
  for (;;) {
    const quote = text.indexOf('"', from);
    if (quote < 0) {
      throw new DataError("corrupt", path, `line ${line}: a quote is opened and never closed`);
    }
    value += text.slice(from, quote);
    if (text[quote + 1] !== '"') {
      return { value, end: quote + 1, lines: value.split("\n").length - 1 };
    }
    value += '"';
    from = quote + 2;
  }
}
