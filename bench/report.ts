/** What a suite found, for people and for programs, and where it is recorded. */

import { readFileSync, writeFileSync } from "node:fs";
import { cpus, loadavg, release, totalmem } from "node:os";
import { join } from "node:path";
import { availableEngines } from "../nn/engine/create.ts";
import { markdown, type Table } from "./table.ts";

export interface Section {
  readonly title: string;
  /** Paragraphs above the table. */
  readonly text: readonly string[];
  readonly table?: Table;
}

export interface Report {
  readonly title: string;
  readonly sections: readonly Section[];
  /** The figures by name, for `--json`. */
  readonly figures: Readonly<Record<string, unknown>>;
}

/** Where and with what something was measured. */
export interface Setting {
  readonly date: string;
  readonly machine: string;
  readonly versions: string;
  readonly command: string;
}

const RESULTS = join(import.meta.dir, "RESULTS.md");
const HEADER = [
  "# Results",
  "",
  "Written by `npx bun run bench <suite> --record`; each section by the command that it names.",
  "",
].join("\n");

/** @param versions of what else took part. */
export async function settingOf(command: string, versions: readonly string[]): Promise<Setting> {
  const processors = cpus();
  const memory = `${(totalmem() / 2 ** 30).toFixed(0)} GiB`;
  const load = loadavg()[0]!.toFixed(1);
  const engines = (await availableEngines()).filter(
    ({ name }) => name === "native" || name === "node-binding",
  );
  const runtime = engines.slice(0, 1).map(({ name, version }) => `ONNX Runtime ${version} (${name})`);
  return {
    date: new Date().toISOString().slice(0, 10),
    machine: `${processors.length} × ${processors[0]?.model.trim()}, ${memory}, ${process.platform} ${release().split("-")[0]}, load ${load} before`,
    versions: [`Bun ${Bun.version}`, ...runtime, ...versions].join(", "),
    command,
  };
}

export function toMarkdown(
  { title, sections }: Report,
  { date, machine, versions, command }: Setting,
): string {
  const facts = [
    `- Date: ${date}`,
    `- Machine: ${machine}`,
    `- Versions: ${versions}`,
    `- Command: \`${command}\``,
  ];
  const parts = sections.map(({ title: name, text, table }) =>
    [`### ${name}`, ...text, ...(table ? [markdown(table)] : [])].join("\n\n"),
  );
  return [`## ${title}`, facts.join("\n"), ...parts].join("\n\n");
}

/** Replaces the suite's part of RESULTS.md. */
export function record(suite: string, text: string): void {
  let before: string;
  try {
    before = readFileSync(RESULTS, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    before = HEADER;
  }
  writeFileSync(RESULTS, withSection(before, suite, text));
}

/** The document with the section of one suite replaced, or added behind the others. */
export function withSection(document: string, suite: string, text: string): string {
  const [begin, end] = [`<!-- ${suite}: generated -->`, `<!-- ${suite}: end -->`];
  const section = `${begin}\n${text}\n${end}`;
  const from = document.indexOf(begin);
  const to = document.indexOf(end, from);
  if (from < 0 || to < 0) return `${document.trimEnd()}\n\n${section}\n`;
  return document.slice(0, from) + section + document.slice(to + end.length);
}
