/**
 * Checkpoints in the object store of a NATS server, beside the journal of a run that several coordinators may lead. Which
 * there are is a list under compare-and-set: a checkpoint is there once it is in the list, and its files are removed
 * when it is not any more. The list has the epoch of the last coordinator that led the run, and is not changed by one of
 * an earlier epoch.
 *
 * There is a connection for each thing that is done, and none between checkpoints.
 */

import type { Chunks } from "../../runtime/platform/files.ts";
import { connectNats, DamagedObject, type Nats } from "../../runtime/platform/nats.ts";
import { CheckpointError, REMEDY } from "../checkpoint-state.ts";
import { type NatsPlace, natsPlace } from "../journal/nats-place.ts";
import type { Kept, Store } from "./store.ts";
import { supersededAt } from "./superseded.ts";

interface Listed {
  readonly step: number;
  /** What the names of its objects begin with. */
  readonly folder: string;
}

interface Listing {
  readonly epoch: number;
  readonly checkpoints: readonly Listed[];
}

const NOTHING: Listing = { epoch: 0, checkpoints: [] };
const LIST = "checkpoints";

export class ObjectStore implements Store {
  readonly place: string;
  private readonly at: NatsPlace;
  readonly epoch: number;
  /** The one that is being written. */
  private writing: Listed = { step: 0, folder: "" };

  /** @param epoch of the one who leads the run; 0 where nobody does. @throws PlaceError. */
  constructor(address: string, epoch: number) {
    this.at = natsPlace(address);
    this.place = this.at.step === null ? this.at.address : this.pathOf(this.at.step);
    this.epoch = epoch;
  }

  async prepare(): Promise<void> {
    await this.connected((nats) => this.change(nats, (checkpoints) => checkpoints));
  }

  async list(): Promise<readonly Kept[]> {
    const { step: only } = this.at;
    const { checkpoints } = await this.connected((nats) => this.listing(nats));
    return checkpoints
      .filter(({ step }) => only === null || step === only)
      .map(({ step }) => ({ path: this.pathOf(step), step }))
      .sort((a, b) => b.step - a.step);
  }

  read(path: string, name: string): Promise<Uint8Array | null> {
    return this.connected(async (nats) => {
      const { checkpoints } = await this.listing(nats);
      const found = checkpoints.find(({ step }) => this.pathOf(step) === path);
      if (!found) return null;
      const objects = await nats.objects(this.at.name);
      return objects.get(`${found.folder}/${name}`).catch((cause) => {
        if (!(cause instanceof DamagedObject)) throw cause;
        throw new CheckpointError("damaged", `${path}/${name} was changed on the server${REMEDY}`);
      });
    });
  }

  async begin(step: number): Promise<void> {
    await this.connected(async (nats) => {
      // No two that are begun see the same revision.
      const { revision, checkpoints } = await this.change(nats, (each) => each);
      this.writing = { step, folder: `step-${step}.${revision}` };
      // What is in no list was not completed, or is not to be there any more.
      const objects = await nats.objects(this.at.name);
      await objects.sweep();
      const known = new Set(checkpoints.map(({ folder }) => folder));
      for (const name of await objects.names()) {
        if (!known.has(name.slice(0, name.lastIndexOf("/")))) await objects.remove(name);
      }
    });
  }

  async write(name: string, chunks: Chunks): Promise<void> {
    await this.connected(async (nats) => {
      await (await nats.objects(this.at.name)).put(`${this.writing.folder}/${name}`, chunks);
    });
  }

  async complete(name: string, bytes: Uint8Array): Promise<string> {
    const { step } = this.writing;
    await this.write(name, [bytes]);
    await this.connected((nats) =>
      this.change(nats, (checkpoints) => [this.writing, ...checkpoints.filter((each) => each.step !== step)]),
    );
    return this.pathOf(step);
  }

  async remove(path: string): Promise<void> {
    await this.connected(async (nats) => {
      const { checkpoints: before } = await this.listing(nats);
      const gone = before.filter(({ step }) => this.pathOf(step) === path);
      await this.change(nats, (checkpoints) => checkpoints.filter(({ step }) => this.pathOf(step) !== path));
      const objects = await nats.objects(this.at.name);
      for (const name of await objects.names()) {
        if (gone.some(({ folder }) => name.startsWith(`${folder}/`))) await objects.remove(name);
      }
    });
  }

  private pathOf(step: number): string {
    return `${this.at.address}/step-${step}`;
  }

  private async listing(nats: Nats): Promise<Listing> {
    const { value } = await (await nats.register(this.at.name, LIST)).read();
    return value === "" ? NOTHING : JSON.parse(value);
  }

  /** @throws Deposed where somebody of a later epoch leads the run. */
  private async change(
    nats: Nats,
    next: (checkpoints: readonly Listed[]) => readonly Listed[],
  ): Promise<{ readonly revision: number; readonly checkpoints: readonly Listed[] }> {
    const register = await nats.register(this.at.name, LIST);
    for (;;) {
      const { value, revision: before } = await register.read();
      const listing: Listing = value === "" ? NOTHING : JSON.parse(value);
      if (listing.epoch > this.epoch && this.epoch > 0) {
        throw supersededAt(this.place);
      }
      const checkpoints = next(listing.checkpoints);
      const epoch = Math.max(this.epoch, listing.epoch);
      const revision = await register.write(JSON.stringify({ epoch, checkpoints }), before);
      if (revision !== null) return { revision, checkpoints };
    }
  }

  private async connected<T>(work: (nats: Nats) => Promise<T>): Promise<T> {
    const nats = await connectNats(this.at.server);
    try {
      return await work(nats);
    } finally {
      await nats.close();
    }
  }
}
