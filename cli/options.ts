/**
 * Options of a command, as a table: parsed by the platform's `parseArgs`, checked here, so that every mistake gets
 * one line that names the option, what came and what would be right.
 */

import { parseArgs } from "../runtime/platform/process.ts";
import { looksLikeToken } from "../runtime/security/token.ts";
import { UsageError } from "./command.ts";
import { nearest } from "./nearest.ts";

export interface OptionSpec {
  /** What its value is called in the help, e.g. "N"; without one it is a switch. */
  readonly value?: string;
  readonly help: string;
  readonly repeated?: boolean;
  /** Its value is never shown. */
  readonly secret?: boolean;
}

export type OptionTable = Readonly<Record<string, OptionSpec>>;

interface Range {
  readonly from: number;
  readonly to?: number;
}

/** The options that were given. */
export class Options {
  private readonly values: ReadonlyMap<string, readonly string[]>;

  constructor(values: ReadonlyMap<string, readonly string[]>) {
    this.values = values;
  }

  /** All of them, by name. */
  get given(): ReadonlyMap<string, readonly string[]> {
    return this.values;
  }

  has(name: string): boolean {
    return this.values.has(name);
  }

  all(name: string): readonly string[] {
    return this.values.get(name) ?? [];
  }

  text(name: string): string | undefined {
    return this.values.get(name)?.at(-1);
  }

  /** The same with other values; undefined as if it had not been given. */
  with(changes: Readonly<Record<string, string | undefined>>): Options {
    const values = new Map(this.values);
    for (const [name, value] of Object.entries(changes)) {
      if (value === undefined) values.delete(name);
      else values.set(name, [value]);
    }
    return new Options(values);
  }

  /** @throws UsageError unless it is a whole number in the range. */
  whole(name: string, { from, to = 2 ** 32 - 1 }: Range): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const value = /^\d+$/.test(text) ? Number(text) : Number.NaN;
    if (value >= from && value <= to) return value;
    const range = to === 2 ** 32 - 1 ? `from ${from} up` : `from ${from} to ${to}`;
    throw new UsageError(`--${name} ${text}: expected a whole number ${range}`);
  }

  /** @throws UsageError unless it is a number in the range, both ends included. */
  number(name: string, { from, to = Number.MAX_VALUE }: Range): number | undefined {
    const text = this.text(name);
    if (text === undefined) return undefined;
    const value = text.trim() === "" ? Number.NaN : Number(text);
    if (value >= from && value <= to) return value;
    const range = to === Number.MAX_VALUE ? `from ${from} up` : `from ${from} to ${to}`;
    throw new UsageError(`--${name} ${text}: expected a number ${range}, such as 0.001 or 1e-3`);
  }

  /** @throws UsageError naming the choices. */
  choice<T extends string>(name: string, choices: readonly T[]): T | undefined {
    const text = this.text(name);
    if (text === undefined || choices.includes(text as T)) return text as T | undefined;
    throw new UsageError(`--${name} ${text} is not available; there is ${list(choices)}`);
  }
}

/** @throws UsageError for an unknown option, a missing or superfluous value, or an argument that is no option. */
export function parseOptions(command: string, table: OptionTable, args: readonly string[]): Options {
  const { tokens } = parseArgs({
    args: [...args],
    options: Object.fromEntries(
      Object.entries(table).map(
        ([name, { value }]) => [name, { type: value ? "string" : "boolean" }] as const,
      ),
    ),
    allowPositionals: true,
    strict: false,
    tokens: true,
  });
  const values = new Map<string, string[]>();
  for (const token of tokens) {
    if (token.kind === "option-terminator") continue;
    if (token.kind === "positional") {
      const what = looksLikeToken(token.value) ? "a join token" : `"${token.value}"`;
      throw new UsageError(`${what} is not an option; troupe ${command} takes only options`);
    }
    const { name, rawName } = token;
    const spec = Object.hasOwn(table, name) ? table[name] : undefined;
    if (!spec || !rawName.startsWith("--")) {
      throw new UsageError(
        `unknown option ${rawName}; the nearest is --${nearest(name, Object.keys(table))}`,
      );
    }
    if (spec.value === undefined && token.value !== undefined) {
      throw new UsageError(`--${name} takes no value, "${token.value}" was given`);
    }
    const missing = token.value === undefined || (!token.inlineValue && token.value.startsWith("--"));
    if (spec.value !== undefined && missing) {
      throw new UsageError(`--${name} needs a value: --${name} <${spec.value}>`);
    }
    if (spec.value !== undefined && token.value === "") {
      throw new UsageError(`--${name} is empty: --${name} <${spec.value}> is expected`);
    }
    const earlier = values.get(name);
    if (earlier && spec.value !== undefined && !spec.repeated) {
      const values = spec.secret ? "" : `, as ${earlier[0]} and as ${token.value}`;
      throw new UsageError(`--${name} was given twice${values}`);
    }
    values.set(name, [...(earlier ?? []), token.value ?? ""]);
  }
  return new Options(values);
}

/** The table as lines of help. */
export function describeOptions(table: OptionTable): string[] {
  const rows = Object.entries(table).map(([name, { value, help }]) => ({
    left: `--${name}${value ? ` <${value}>` : ""}`,
    help,
  }));
  const width = Math.max(...rows.map(({ left }) => left.length));
  return rows.map(({ left, help }) => `  ${left.padEnd(width)}  ${help}`);
}

/** "a", "a and b", "a, b and c". */
export function list(words: readonly string[]): string {
  return words.length < 2 ? words.join("") : `${words.slice(0, -1).join(", ")} and ${words.at(-1)}`;
}
