/** A simulated disk: it outlives whoever uses it, and takes a machine's time; what one that is gone asked of it is not done. */

import { type Chunks, FileError, type Files } from "../../../../runtime/platform/files.ts";
import type { Host } from "../../../sim/host.ts";

/** Milliseconds of each operation. */
const OPERATION_MS = 1;

export class Disk {
  /** By path. */
  private readonly content = new Map<string, Uint8Array>();
  private readonly folders = new Set<string>();

  /** As a machine sees it. */
  through(host: Host): Files {
    const timed =
      <Args extends readonly unknown[], T>(work: (...args: Args) => T) =>
      async (...args: Args): Promise<Awaited<T>> => {
        await host.sleep(OPERATION_MS);
        return await work(...args);
      };
    return {
      read: timed((path: string) => this.read(path).slice()),
      readRange: timed((path: string, start: number, end: number) => this.read(path).slice(start, end)),
      size: timed((path: string) => this.read(path).byteLength),
      realPath: timed((path: string) => path),
      list: timed((folder: string) => this.list(folder)),
      exists: timed((path: string) => this.content.has(path) || this.isFolder(path)),
      isFolder: timed((path: string) => this.isFolder(path)),
      isFile: timed((path: string) => this.content.has(path)),
      makeFolder: timed((path: string) => void this.folders.add(path)),
      write: async (path, chunks) => {
        const bytes = await gathered(chunks);
        await host.sleep(OPERATION_MS);
        this.content.set(path, bytes);
      },
      rename: timed((from: string, to: string) => this.rename(from, to)),
      remove: timed((path: string) => this.remove(path)),
      packageFolder: (name) => {
        throw new FileError("missing", name, `there are no packages on a simulated disk: ${name}`);
      },
      platform: "simulated",
    };
  }

  private read(path: string): Uint8Array {
    const bytes = this.content.get(path);
    if (!bytes) throw new FileError("missing", path, `cannot read ${path}: it does not exist`);
    return bytes;
  }

  private isFolder(path: string): boolean {
    return this.folders.has(path) || [...this.content.keys()].some((each) => each.startsWith(`${path}/`));
  }

  private list(folder: string): string[] {
    const inside = [...this.content.keys(), ...this.folders].filter((path) => path.startsWith(`${folder}/`));
    return [...new Set(inside.map((path) => path.slice(folder.length + 1).split("/")[0]!))];
  }

  private rename(from: string, to: string): void {
    const moved = [...this.content].filter(([path]) => path === from || path.startsWith(`${from}/`));
    const isFolder = this.isFolder(from);
    if (moved.length === 0 && !isFolder) {
      throw new FileError("missing", from, `cannot rename ${from}: it does not exist`);
    }
    this.remove(from);
    for (const [path, bytes] of moved) this.content.set(to + path.slice(from.length), bytes);
    if (isFolder) this.folders.add(to);
  }

  private remove(path: string): void {
    for (const each of [...this.content.keys()]) {
      if (each === path || each.startsWith(`${path}/`)) this.content.delete(each);
    }
    for (const each of [...this.folders]) {
      if (each === path || each.startsWith(`${path}/`)) this.folders.delete(each);
    }
  }
}

async function gathered(chunks: Chunks): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for await (const chunk of chunks) parts.push(chunk.slice());
  // No Blob: it takes real time.
  return Uint8Array.from(Buffer.concat(parts));
}
