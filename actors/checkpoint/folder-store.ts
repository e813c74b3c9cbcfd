/**
 * Checkpoints in folders: the newest is in the store's own place, older ones beside it as `<place>.step-<N>`.
 *
 * A new one is made as `<place>.partial`. When it is complete the old one becomes `<place>.previous`, the new one takes
 * its place, and the old one gets its name. Whenever the process is killed, either the old or the new checkpoint is
 * whole; it is found even between the two renames.
 */

import type { Chunks, Files } from "../../runtime/platform/files.ts";
import { CheckpointError, parseState } from "../checkpoint-state.ts";
import { isPart, STATE, stepOf } from "./file-names.ts";
import type { Kept, Store } from "./store.ts";

export class FolderStore implements Store {
  readonly place: string;
  private readonly files: Files;
  private readonly partial: string;
  private readonly previous: string;

  constructor(files: Files, folder: string) {
    this.files = files;
    this.place = folder.replace(/(?<=.)[/\\]+$/, "");
    this.partial = `${this.place}.partial`;
    this.previous = `${this.place}.previous`;
  }

  async prepare(): Promise<void> {
    const { files, place, partial } = this;
    await this.settle();
    if (await files.exists(place)) {
      const stranger = (await files.list(place)).find((name) => !isPart(name));
      if (stranger !== undefined) {
        throw new CheckpointError(
          "occupied",
          `${place} holds ${stranger}, which is no part of a checkpoint: choose a new or an empty folder`,
        );
      }
    }
    await files.remove(partial);
    await files.makeFolder(partial);
    await files.write(`${partial}/${STATE}`, []);
    await files.remove(partial);
  }

  async list(): Promise<readonly Kept[]> {
    const { files, place, previous } = this;
    const newest = [];
    for (const path of [place, previous]) if (await files.exists(path)) newest.push({ path, step: null });
    const [, folder = "", name = place] = /^(.*[/\\])?([^/\\]+)$/.exec(place) ?? [];
    const parent = folder || ".";
    if (!(await files.isFolder(parent))) return newest;
    const older = (await files.list(parent))
      .filter((each) => each.startsWith(`${name}.step-`) && stepOf(each) !== null)
      .map((each) => ({ path: `${folder}${each}`, step: stepOf(each) }));
    return [...newest, ...older.sort((a, b) => b.step! - a.step!)];
  }

  async read(path: string, name: string): Promise<Uint8Array | null> {
    const file = `${path}/${name}`;
    return (await this.files.exists(file)) ? this.files.read(file) : null;
  }

  async begin(): Promise<void> {
    await this.prepare();
    await this.files.makeFolder(this.partial);
  }

  write(name: string, chunks: Chunks): Promise<void> {
    return this.files.write(`${this.partial}/${name}`, chunks);
  }

  async complete(name: string, bytes: Uint8Array): Promise<string> {
    const { files, place, partial, previous } = this;
    await this.write(name, [bytes]);
    if (await files.exists(place)) await files.rename(place, previous);
    await files.rename(partial, place);
    await this.settle();
    return place;
  }

  remove(path: string): Promise<void> {
    return this.files.remove(path);
  }

  /** The one before the newest gets its name; where a writer was killed and there is no newest, it is that again. */
  private async settle(): Promise<void> {
    const { files, place, previous } = this;
    if (!(await files.exists(previous))) return;
    if (!(await files.exists(place))) return files.rename(previous, place);
    const step = await this.stepIn(previous);
    if (step === null) return files.remove(previous);
    const older = `${place}.step-${step}`;
    await files.remove(older);
    await files.rename(previous, older);
  }

  /** Null where there is no state, or a damaged one: nobody can use that any more. */
  private async stepIn(path: string): Promise<number | null> {
    const bytes = await this.read(path, STATE);
    if (bytes === null) return null;
    try {
      return parseState(bytes, path).step;
    } catch {
      return null;
    }
  }
}
