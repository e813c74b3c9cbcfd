/**
 * What programs of the reference engine have come to, by what they were given. Simulated runs of one shape compute the same
 * numbers over and over, with and without faults; computed once, they cost a copy. Nothing else changes: whoever runs a
 * program finds in its fetches what it would have found there.
 */

import type { Bound, Program } from "../../../../nn/engine/reference/backend.ts";

/** Of all outcomes that are kept; twice that at most. */
const MOST_BYTES = 48 << 20;

export class Outcomes {
  private readonly names = new WeakMap<Program, bigint>();
  /** Those that were asked for lately, and those that were before. */
  private known = new Map<string, readonly Uint8Array[]>();
  private former = new Map<string, readonly Uint8Array[]>();
  private bytes = 0;

  /** @param compute fills the fetches. */
  of(bound: Bound, compute: () => void): void {
    const { fetches } = bound;
    const key = this.keyOf(bound);
    const outcome = this.known.get(key) ?? this.former.get(key);
    if (outcome) for (const [i, { bytes }] of fetches.entries()) bytes.set(outcome[i]!);
    else compute();
    if (!this.known.has(key)) this.keep(key, outcome ?? fetches.map(({ bytes }) => bytes.slice()));
  }

  private keep(key: string, outcome: readonly Uint8Array[]): void {
    this.known.set(key, outcome);
    this.bytes += outcome.reduce((sum, { byteLength }) => sum + byteLength, 0);
    if (this.bytes < MOST_BYTES) return;
    this.former = this.known;
    this.known = new Map();
    this.bytes = 0;
  }

  private keyOf({ program, feeds, fetches }: Bound): string {
    let hash = this.nameOf(program);
    for (const { name, bytes } of feeds) hash = Bun.hash(bytes, Bun.hash(name, hash) as bigint) as bigint;
    for (const { name } of fetches) hash = Bun.hash(name, hash) as bigint;
    return hash.toString(36);
  }

  private nameOf(program: Program): bigint {
    const known = this.names.get(program);
    if (known !== undefined) return known;
    const { constants, steps } = program;
    const values = [...constants].map(([name, { dtype, shape, data }]) => [name, dtype, shape, [...data]]);
    const name = Bun.hash(JSON.stringify([values, steps.map(({ node }) => node)])) as bigint;
    this.names.set(program, name);
    return name;
  }
}
