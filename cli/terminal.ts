/** Text for terminals: colours, tables, a progress bar, and numbers as people read them. */

import type { Output } from "../runtime/platform/process.ts";

export type Style = "bold" | "dim" | "red" | "green" | "yellow" | "cyan";

/** SGR parameters of ECMA-48: how a style begins and ends. */
const SGR: Readonly<Record<Style, readonly [number, number]>> = {
  bold: [1, 22],
  dim: [2, 22],
  red: [31, 39],
  green: [32, 39],
  yellow: [33, 39],
  cyan: [36, 39],
};

export type Paint = (style: Style, text: string) => string;

/** Colours text where colours are wanted, and leaves it alone elsewhere. */
export function painter({ colours }: Pick<Output, "colours">): Paint {
  if (!colours) return (_, text) => text;
  return (style, text) => `\x1b[${SGR[style][0]}m${text}\x1b[${SGR[style][1]}m`;
}

export interface Column {
  readonly title: string;
  readonly align: "left" | "right";
}

/** Rows under their titles, columns two spaces apart; no line ends in spaces. */
export function table(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  paint: Paint,
): string[] {
  const widths = columns.map(({ title }, i) => Math.max(title.length, ...rows.map((row) => row[i]!.length)));
  const line = (cells: readonly string[]) =>
    cells
      .map((cell, i) => (columns[i]!.align === "left" ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!)))
      .join("  ")
      .trimEnd();
  const titles = line(columns.map(({ title }) => title));
  return [paint("dim", titles), ...rows.map(line)].map((text) => `  ${text}`);
}

const EIGHTHS = ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"];

/** A bar of `width` columns, `share` of it (0 … 1) filled, to an eighth of a column. */
export function bar(share: number, width: number): string {
  const eighths = Math.round(Math.min(1, Math.max(0, share)) * width * 8);
  const filled = "█".repeat(eighths >> 3) + EIGHTHS[eighths & 7];
  return filled + "░".repeat(width - filled.length);
}

/** 950, 12.3 k, 3.3 M. */
export function count(value: number): string {
  return scaled(value, ["", "k", "M", "G", "T"]);
}

/** 12.3 MB: powers of ten, as disks and links are measured. */
export function bytes(value: number): string {
  return scaled(value, ["B", "kB", "MB", "GB", "TB"]);
}

/** 0:05, 2:03, 1:02:03. */
export function duration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  const parts = [Math.floor(seconds / 3600), Math.floor(seconds / 60) % 60, seconds % 60];
  const shown = parts[0] === 0 ? parts.slice(1) : parts;
  return shown.map((part, i) => (i === 0 ? `${part}` : `${part}`.padStart(2, "0"))).join(":");
}

export function percent(share: number): string {
  return `${(share * 100).toFixed(share < 0.1 ? 1 : 0)} %`;
}

function scaled(value: number, units: readonly string[]): string {
  let unit = 0;
  let rest = value;
  while (rest >= 999.5 && unit < units.length - 1) {
    rest /= 1000;
    unit++;
  }
  const digits = unit === 0 || rest >= 99.95 ? 0 : 1;
  return `${rest.toFixed(digits)} ${units[unit]}`.trimEnd();
}
