/**
 * Where a run's checkpoints are kept: a folder on disk, a bucket of an S3-compatible store, or a NATS server. A store knows where files
 * of a checkpoint go and in which order, so that a checkpoint is there as a whole or not at all; what is in them it does
 * not know.
 */

import { openBucket } from "../../runtime/platform/bucket.ts";
import type { Chunks, Files } from "../../runtime/platform/files.ts";
import { CheckpointError } from "../checkpoint-state.ts";
import { isNatsPlace } from "../journal/nats-place.ts";
import { BucketStore } from "./bucket-store.ts";
import { FolderStore } from "./folder-store.ts";
import { ObjectStore } from "./object-store.ts";

/** A checkpoint of a store. */
export interface Kept {
  /** Its folder or address, for people and to be resumed from. */
  readonly path: string;
  /** Null for the current one of a folder, whose name does not say it. */
  readonly step: number | null;
}

export interface Store {
  /** For people. */
  readonly place: string;
  /** Of whoever leads the run, where several may: who is of an earlier one than what is there changes nothing. Else 0. */
  readonly epoch: number;
  /**
   * Makes sure that checkpoints can be written here, and removes what is left of one that was not completed.
   * @throws FileError, CheckpointError where something else is in the way, Deposed where another coordinator leads the run;
   *   what else changes anything may throw that too.
   */
  prepare(): Promise<void>;
  /** Checkpoints that are there, the newest first. */
  list(): Promise<readonly Kept[]>;
  /** A file of a checkpoint; null where there is none. @throws FileError. */
  read(path: string, name: string): Promise<Uint8Array | null>;
  /** Begins a checkpoint; throws as `prepare`. */
  begin(step: number): Promise<void>;
  /** Adds a file to the one that was begun. */
  write(name: string, chunks: Chunks): Promise<void>;
  /** Adds the last file, with which the checkpoint is complete and the newest. @returns its path. */
  complete(name: string, bytes: Uint8Array): Promise<string>;
  remove(path: string): Promise<void>;
}

/** Whether a place is no folder: `s3://bucket/prefix`, or `nats://host:port/name`. */
export function isRemotePlace(place: string): boolean {
  return place.startsWith("s3://") || isNatsPlace(place);
}

/**
 * @param place a folder, `s3://bucket/prefix`, or `nats://host:port/name`.
 * @param epoch of whoever leads the run, where several may: those of earlier ones are refused.
 * @throws CheckpointError or PlaceError for an address that is none, FileError where the platform has no client for it.
 */
export function openStore(files: Files, place: string, epoch = 0): Store {
  if (isNatsPlace(place)) return new ObjectStore(place, epoch);
  if (!isRemotePlace(place)) return new FolderStore(files, place, epoch);
  const [, bucket, prefix] = /^s3:\/\/([^/]+)\/(.*[^/])\/*$/.exec(place) ?? [];
  if (bucket === undefined || prefix === undefined) {
    throw new CheckpointError(
      "missing",
      `${place} names no place for checkpoints: s3://<bucket>/<prefix> is expected`,
    );
  }
  return new BucketStore(openBucket(bucket), bucket, prefix, epoch);
}
