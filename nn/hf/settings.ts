/** Typed access to the settings of a config.json: present, absent with a default, or wrong with a named error. */

import { HuggingFaceError } from "./folder.ts";

/** More than any known model has. */
const MOST_LAYERS = 1000;

export class Settings {
  readonly values: Readonly<Record<string, unknown>>;
  /** Names the file, and the part of it, in errors. */
  readonly where: string;

  constructor(values: Readonly<Record<string, unknown>>, where: string) {
    this.values = values;
    this.where = where;
  }

  has(key: string): boolean {
    return this.values[key] !== undefined && this.values[key] !== null;
  }

  /** A number greater than zero. Without a default the setting must be there. */
  positive(key: string, fallback?: number): number {
    const value = this.has(key) ? this.values[key] : fallback;
    if (typeof value !== "number" || !(value > 0)) this.wrong(key, "a number greater than 0");
    return value as number;
  }

  /** A whole number greater than zero. */
  count(key: string, fallback?: number): number {
    const value = this.positive(key, fallback);
    if (!Number.isSafeInteger(value)) this.wrong(key, "a whole number");
    return value;
  }

  /** A number of layers. Every one of them is written into a graph: a file may not ask for any number. */
  layers(key: string, fallback?: number): number {
    const value = this.count(key, fallback);
    if (value > MOST_LAYERS) this.wrong(key, `at most ${MOST_LAYERS}`);
    return value;
  }

  /** A whole number, zero or greater. */
  whole(key: string, fallback: number): number {
    return this.values[key] === 0 ? 0 : this.count(key, fallback);
  }

  flag(key: string, fallback: boolean): boolean {
    const value = this.has(key) ? this.values[key] : fallback;
    if (typeof value !== "boolean") this.wrong(key, "true or false");
    return value as boolean;
  }

  text(key: string, fallback?: string): string {
    const value = this.has(key) ? this.values[key] : fallback;
    if (typeof value !== "string") this.wrong(key, "a string");
    return value as string;
  }

  /** A list with one entry per layer; undefined when it is not there. */
  perLayer(key: string, layers: number): readonly unknown[] | undefined {
    if (!this.has(key)) return undefined;
    const value = this.values[key];
    if (!Array.isArray(value) || value.length < layers) this.wrong(key, `a list of ${layers} entries`);
    return value as unknown[];
  }

  /** An object of settings; undefined when it is not there. */
  part(key: string): Settings | undefined {
    if (!this.has(key)) return undefined;
    const value = this.values[key];
    if (typeof value !== "object" || Array.isArray(value)) this.wrong(key, "an object");
    return new Settings(value as Record<string, unknown>, `${this.where}, ${key}`);
  }

  /** @throws HuggingFaceError always. */
  wrong(key: string, expected: string): never {
    const value = this.values[key];
    const came = value === undefined ? "is missing" : `is ${JSON.stringify(value)}`;
    throw new HuggingFaceError(`${this.where}: ${key} ${came}, expected ${expected}`);
  }

  /** @throws HuggingFaceError unless the setting is absent or has one of these values. */
  only(key: string, allowed: readonly unknown[]): void {
    if (this.has(key) && !allowed.includes(this.values[key])) {
      this.wrong(key, `${allowed.map((value) => JSON.stringify(value)).join(" or ")}; nothing else is known`);
    }
  }
}
