/**
 * Checkpoints in a bucket of an S3-compatible store: each under `<prefix>/step-<N>/`, or `<prefix>/step-<N>.epoch-<E>/` where
 * several coordinators may lead the run, and there once its last object is, which is put and removed as a whole. Nothing is
 * renamed, for such stores cannot.
 */

import type { Bucket } from "../../runtime/platform/bucket.ts";
import type { Chunks } from "../../runtime/platform/files.ts";
import { checkpointName, epochOf, STATE, stepOf } from "./file-names.ts";
import type { Kept, Store } from "./store.ts";
import { supersededAt } from "./superseded.ts";

export class BucketStore implements Store {
  readonly place: string;
  readonly epoch: number;
  private readonly bucket: Bucket;
  private readonly root: string;
  private readonly prefix: string;
  /** Key of the one that is being written. */
  private writing = "";

  constructor(bucket: Bucket, name: string, prefix: string, epoch = 0) {
    this.bucket = bucket;
    this.epoch = epoch;
    this.prefix = prefix;
    this.root = `s3://${name}/`;
    this.place = `${this.root}${prefix}`;
  }

  async prepare(): Promise<void> {
    const { bucket, prefix } = this;
    const probe = `${prefix}/probe`;
    await bucket.put(probe, [new TextEncoder().encode("Troupe can write here")]);
    await bucket.remove(probe);
    const complete = new Set((await this.requireLead()).map(({ path }) => path));
    for (const key of await bucket.list(`${prefix}/step-`)) {
      const path = this.root + key.slice(0, key.lastIndexOf("/"));
      if (stepOf(path) === null || complete.has(path)) continue;
      // One of a later epoch is being written by whoever leads the run now.
      if (this.epoch === 0 || epochOf(path) <= this.epoch) await bucket.remove(key);
    }
  }

  async list(): Promise<readonly Kept[]> {
    const { bucket, place, prefix, root } = this;
    const keys = await bucket.list(`${prefix}/`);
    // The address of one checkpoint, rather than of a run's.
    if (keys.includes(`${prefix}/${STATE}`)) return [{ path: place, step: stepOf(place) }];
    const found = keys
      .filter((key) => key.endsWith(`/${STATE}`))
      .map((key) => root + key.slice(0, -STATE.length - 1))
      .map((path) => ({ path, step: stepOf(path) }));
    return found
      .filter(({ step }) => step !== null)
      .sort((a, b) => b.step! - a.step! || epochOf(b.path) - epochOf(a.path));
  }

  read(path: string, name: string): Promise<Uint8Array | null> {
    return this.bucket.get(`${this.keyOf(path)}/${name}`);
  }

  async begin(step: number): Promise<void> {
    await this.requireLead();
    this.writing = `${this.prefix}/${checkpointName(step, this.epoch)}`;
    // One of this step that is there is another run's, or damaged: a complete one is not written over piece by piece.
    await this.removeKey(this.writing);
    await this.prepare();
  }

  write(name: string, chunks: Chunks): Promise<void> {
    return this.bucket.put(`${this.writing}/${name}`, chunks);
  }

  async complete(name: string, bytes: Uint8Array): Promise<string> {
    await this.requireLead();
    await this.write(name, [bytes]);
    return this.root + this.writing;
  }

  async remove(path: string): Promise<void> {
    await this.requireLead();
    await this.removeKey(this.keyOf(path));
  }

  /** @returns checkpoints that are there. @throws Deposed where one is of a later epoch. */
  private async requireLead(): Promise<readonly Kept[]> {
    const kept = await this.list();
    if (kept.some(({ path }) => epochOf(path) > this.epoch && this.epoch > 0)) throw supersededAt(this.place);
    return kept;
  }

  /** What makes it a checkpoint goes first. */
  private async removeKey(folder: string): Promise<void> {
    await this.bucket.remove(`${folder}/${STATE}`);
    for (const key of await this.bucket.list(`${folder}/`)) await this.bucket.remove(key);
  }

  private keyOf(path: string): string {
    return path.slice(this.root.length);
  }
}
