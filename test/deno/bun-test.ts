/**
 * `bun:test` for Deno: the part of it that tests of the runtime use, on `Deno.test` and the `expect` that Bun's is
 * modelled on, so that the same test files run on both. `test/deno/deno.json` maps the one to the other.
 */

import { expect as jest } from "expect";

declare const Deno: {
  test(options: {
    name: string;
    ignore?: boolean;
    sanitizeOps: boolean;
    sanitizeResources: boolean;
    fn: () => Promise<void>;
  }): void;
};

/** Matchers that Bun's `expect` has of its own. */
const matches = (pass: boolean, received: string, what: string) => ({
  pass,
  message: () => `expected ${JSON.stringify(received)} ${pass ? "not " : ""}to ${what}`,
});
jest.extend({
  toStartWith: (received: string, start: string) =>
    matches(received.startsWith(start), received, `start with ${JSON.stringify(start)}`),
  toEndWith: (received: string, end: string) =>
    matches(received.endsWith(end), received, `end with ${JSON.stringify(end)}`),
});

type Work = () => unknown;
type Hook = "beforeAll" | "beforeEach" | "afterEach" | "afterAll";

interface Group {
  readonly name: string;
  readonly parent: Group | undefined;
  readonly hooks: Record<Hook, Work[]>;
  readonly skipped: boolean;
  /** Tests in it and in groups within it that have not ended. */
  left: number;
  begun: boolean;
}

const group = (name: string, parent: Group | undefined, skipped: boolean): Group => ({
  ...{ name, parent, skipped, left: 0, begun: false },
  hooks: { beforeAll: [], beforeEach: [], afterEach: [], afterAll: [] },
});

const root = group("", undefined, false);
let current = root;

/** The group and those around it, the outermost first. */
function around(innermost: Group): Group[] {
  return innermost.parent ? [...around(innermost.parent), innermost] : [innermost];
}

function register(name: string, work: Work, skipped: boolean): void {
  const groups = around(current);
  const ignore = skipped || groups.some((each) => each.skipped);
  if (!ignore) for (const each of groups) each.left++;
  const path = [...groups.slice(1).map((each) => each.name), name].join(" > ");
  Deno.test({
    name: path,
    ignore,
    sanitizeOps: false,
    sanitizeResources: false,
    fn: () => run(groups, work),
  });
}

async function run(groups: readonly Group[], work: Work): Promise<void> {
  for (const each of groups) {
    if (each.begun) continue;
    each.begun = true;
    for (const hook of each.hooks.beforeAll) await hook();
  }
  try {
    for (const each of groups) for (const hook of each.hooks.beforeEach) await hook();
    await work();
  } finally {
    const inwards = [...groups].reverse();
    for (const each of inwards) for (const hook of each.hooks.afterEach) await hook();
    for (const each of inwards) {
      if (--each.left === 0) for (const hook of each.hooks.afterAll) await hook();
    }
  }
}

type Rows = readonly (readonly unknown[] | unknown)[];

/** `%s`, `%d`, `%p`, `%j` and `%#` of a title. */
function title(template: string, row: readonly unknown[], index: number): string {
  let next = 0;
  return template.replace(/%([sdpijo#%])/g, (_, kind: string) => {
    if (kind === "%") return "%";
    if (kind === "#") return String(index);
    const value = row[next++];
    return typeof value === "string"
      ? value
      : typeof value === "object"
        ? JSON.stringify(value)
        : String(value);
  });
}

function each(define: (name: string, work: Work) => void) {
  return (rows: Rows) => (template: string, work: (...row: any[]) => unknown) => {
    rows.forEach((row, index) => {
      const values = Array.isArray(row) ? row : [row];
      define(title(template, values, index), () => work(...values));
    });
  };
}

function inside(name: string, define: Work, skipped: boolean): void {
  const outer = current;
  current = group(name, outer, skipped);
  try {
    define();
  } finally {
    current = outer;
  }
}

/** A third argument (a timeout or options) is for Bun. */
export const test = Object.assign((name: string, work: Work) => register(name, work, false), {
  skip: (name: string, work: Work) => register(name, work, true),
  skipIf: (condition: unknown) => (name: string, work: Work) => register(name, work, Boolean(condition)),
  each: each((name, work) => register(name, work, false)),
});

export const describe = Object.assign((name: string, define: Work) => inside(name, define, false), {
  skipIf: (condition: unknown) => (name: string, define: Work) => inside(name, define, Boolean(condition)),
  each: each((name, define) => inside(name, define, false)),
});

export const beforeAll = (work: Work) => void current.hooks.beforeAll.push(work);
export const beforeEach = (work: Work) => void current.hooks.beforeEach.push(work);
export const afterEach = (work: Work) => void current.hooks.afterEach.push(work);
export const afterAll = (work: Work) => void current.hooks.afterAll.push(work);
/** A second argument says for Bun what failed. */
export const expect = Object.assign((received: unknown, _what?: string) => jest(received), jest);
