/** Fields of JSON that people have written: each is asked for by name and kind, and what nobody asks for is a mistake. */

/** One line: where, what came, what is wanted. */
export class ReadError extends Error {}

/** A value, and where in the file it is, for people. */
export interface Entry {
  readonly value: unknown;
  readonly where: string;
}

/** The fields of an object. What has no default must be there. */
export interface Fields {
  readonly where: string;
  text(name: string, otherwise?: string): string;
  /** Finite, 0 or more. */
  number(name: string, otherwise?: number): number;
  /** Finite, more than 0. */
  positive(name: string, otherwise?: number): number;
  /** A whole number, 1 or more. */
  count(name: string, otherwise?: number): number;
  list(name: string, otherwise?: readonly unknown[]): readonly Entry[];
  optional(name: string): Entry | undefined;
  /** @throws ReadError for a field that has not been asked for. */
  noMore(): void;
}

/** @throws ReadError for anything else than an object. */
export function object(value: unknown, where: string): Fields {
  if (typeof value !== "object" || value === null || Array.isArray(value)) {
    throw new ReadError(`${where} is not an object`);
  }
  const asked = new Set<string>();
  const take = <T>(
    name: string,
    otherwise: T | undefined,
    is: (given: unknown) => boolean,
    wanted: string,
  ): T => {
    asked.add(name);
    const given: unknown = Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined;
    if (given === undefined && otherwise !== undefined) return otherwise;
    if (given === undefined) throw new ReadError(`${where} has no "${name}", ${wanted} is needed`);
    if (!is(given)) throw new ReadError(`${where}: ${name} is ${JSON.stringify(given)}, ${wanted} is needed`);
    return given as T;
  };
  const finite = (given: unknown): given is number => typeof given === "number" && Number.isFinite(given);
  return {
    where,
    text: (name, otherwise) =>
      take(name, otherwise, (given) => typeof given === "string" && given !== "", "a text"),
    number: (name, otherwise) =>
      take(name, otherwise, (given) => finite(given) && given >= 0, "a number from 0 up"),
    positive: (name, otherwise) =>
      take(name, otherwise, (given) => finite(given) && given > 0, "a number above 0"),
    count: (name, otherwise) =>
      take(
        name,
        otherwise,
        (given) => Number.isSafeInteger(given) && Number(given) > 0,
        "a whole number from 1 up",
      ),
    list: (name, otherwise) =>
      take<readonly unknown[]>(name, otherwise, Array.isArray, "a list").map((entry, i) => ({
        value: entry,
        where: `${where === "the cluster file" ? "" : `${where}.`}${name}[${i}]`,
      })),
    optional: (name) => {
      asked.add(name);
      const given: unknown = Object.hasOwn(value, name) ? Reflect.get(value, name) : undefined;
      const place = where === "the cluster file" ? name : `${where}.${name}`;
      return given === undefined ? undefined : { value: given, where: place };
    },
    noMore: () => {
      const extra = Object.keys(value).find((name) => !asked.has(name));
      if (extra === undefined) return;
      throw new ReadError(`${where} has a field "${extra}", known are ${[...asked].join(", ")}`);
    },
  };
}
