/**
 * Opening connections over shared memory: what is said on the socket until both ends have the file mapped, as told
 * in shm.ts. Each end waits for the other for `PATIENCE_MS` and takes no more than a line of text from it.
 */

import type { Clock } from "../../clock.ts";
import { asError } from "../../errors.ts";
import { type Mapping, mappedFiles } from "../../platform/mapped.ts";
import { systemRandom } from "../../random.ts";
import type { Listener, Pipe, PipeHandlers } from "../transport.ts";
import { connectTo, type Doorbell, type DoorbellHandlers } from "./doorbell.ts";
import { MAPPING_BYTES, ShmPipe } from "./pipe.ts";
import * as places from "./places.ts";

const PATIENCE_MS = 10_000;
/** Begins what the listener says; another version of the layout gets another number. */
const GREETING = "troupe-shm-1";
const LINE_BYTES = 1024;

type Open = (pipe: Pipe) => PipeHandlers;

/** @throws Error saying why not. */
export async function listen(
  address: string,
  folder: string = places.userFolder(),
  clock: Clock,
  accept: Open,
): Promise<Listener> {
  const path = socketPath(address, folder) ?? `${folder}/${randomName()}.sock`;
  places.ownFolder(folder);
  await places.sweep(folder, clock);
  const taken = addressOf(path, folder);
  const opened = (bell: Doorbell) => new Accepting(bell, folder, clock, taken, accept);
  const listener = await places.listenOn(path, clock, opened);
  return { address: taken, close: () => listener.close() };
}

/** @throws Error saying why not. */
export async function connect(
  address: string,
  folder: string = places.userFolder(),
  clock: Clock,
  handlers: Open,
): Promise<Pipe> {
  const path = socketPath(address, folder);
  if (!path) throw malformed(address);
  const pipe = Promise.withResolvers<Pipe>();
  let connecting: Connecting | undefined;
  const timer = clock.setTimer(
    () => connecting?.fail(new Error(`no answer within ${PATIENCE_MS} ms`)),
    PATIENCE_MS,
  );
  try {
    await connectTo(path, (bell) => {
      connecting = new Connecting(bell, clock, address, handlers, pipe);
      return connecting;
    });
    return await pipe.promise;
  } finally {
    clock.clearTimer(timer);
  }
}

/** The listener's end of a connection: first words, then rings. */
class Accepting implements DoorbellHandlers {
  private readonly line = new Line();
  private readonly bell: Doorbell;
  private readonly folder: string;
  private readonly clock: Clock;
  private readonly peer: string;
  private readonly accept: Open;
  private readonly timer: unknown;
  private pipe: ShmPipe | undefined;

  constructor(bell: Doorbell, folder: string, clock: Clock, peer: string, accept: Open) {
    this.bell = bell;
    this.folder = folder;
    this.clock = clock;
    this.peer = peer;
    this.accept = accept;
    this.timer = clock.setTimer(() => bell.close(), PATIENCE_MS);
    say(bell, `${GREETING} ${MAPPING_BYTES} ${folder}`);
  }

  received(bytes: Uint8Array): void {
    if (this.pipe) {
      this.pipe.rung();
      return;
    }
    let mapping: Mapping;
    try {
      const name = this.line.add(bytes);
      if (name === undefined) return;
      this.clock.clearTimer(this.timer);
      mapping = mapper().map(places.checkedFile(this.folder, name, MAPPING_BYTES), MAPPING_BYTES);
      places.removeFile(this.folder, name);
    } catch (error) {
      say(this.bell, `refused: ${asError(error).message}`);
      this.bell.close();
      return;
    }
    say(this.bell, "ok");
    this.pipe = new ShmPipe("listener", mapping, this.bell, this.clock, this.peer);
    this.pipe.handlers = this.accept(this.pipe);
    this.pipe.rung();
  }

  closed(error?: Error): void {
    this.clock.clearTimer(this.timer);
    this.pipe?.ended(error);
  }
}

/** The connector's end. */
class Connecting implements DoorbellHandlers {
  private readonly line = new Line();
  private readonly bell: Doorbell;
  private readonly clock: Clock;
  private readonly peer: string;
  private readonly handlers: Open;
  private readonly opened: PromiseWithResolvers<Pipe>;
  private made: { readonly folder: string; readonly name: string; readonly mapping: Mapping } | undefined;
  private pipe: ShmPipe | undefined;

  constructor(
    bell: Doorbell,
    clock: Clock,
    peer: string,
    handlers: Open,
    opened: PromiseWithResolvers<Pipe>,
  ) {
    this.bell = bell;
    this.clock = clock;
    this.peer = peer;
    this.handlers = handlers;
    this.opened = opened;
  }

  received(bytes: Uint8Array): void {
    if (this.pipe) {
      this.pipe.rung();
      return;
    }
    const said = this.line.add(bytes);
    if (said === undefined) return;
    try {
      if (this.made) this.answered(said);
      else this.greeted(said);
    } catch (error) {
      this.fail(asError(error));
    }
  }

  closed(error?: Error): void {
    if (this.pipe) this.pipe.ended(error);
    else this.fail(error ?? new Error("the listener closed the connection"));
  }

  fail(error: Error): void {
    if (this.pipe) return;
    if (this.made) {
      places.removeFile(this.made.folder, this.made.name);
      this.made.mapping.release();
      this.made = undefined;
    }
    this.opened.reject(error); // first: closing may say at once that the socket is closed
    this.bell.close();
  }

  private greeted(said: string): void {
    const [, version, bytes, folder] = /^(\S+) (\d+) (\/.*)$/.exec(said) ?? [];
    if (version !== GREETING || Number(bytes) !== MAPPING_BYTES || !folder) {
      throw new Error(`expected "${GREETING} ${MAPPING_BYTES} <folder>", got "${said}"`);
    }
    const name = reserve(folder);
    try {
      this.made = { folder, name, mapping: mapper().map(`${folder}/${name}`, MAPPING_BYTES) };
    } catch (error) {
      places.removeFile(folder, name);
      throw error;
    }
    say(this.bell, name);
  }

  private answered(said: string): void {
    if (said !== "ok") throw new Error(`the listener said "${said}"`);
    this.pipe = new ShmPipe("connector", this.made!.mapping, this.bell, this.clock, this.peer);
    this.made = undefined;
    this.pipe.handlers = this.handlers(this.pipe);
    this.opened.resolve(this.pipe);
    this.pipe.rung();
  }
}

/** Gathers a line of text that comes in pieces; what comes after it are rings. */
class Line {
  private text = "";

  /** The line, once it is whole. @throws when it is longer than any that is expected. */
  add(bytes: Uint8Array): string | undefined {
    this.text += new TextDecoder().decode(bytes.subarray(0, LINE_BYTES));
    const end = this.text.indexOf("\n");
    if (end < 0 && this.text.length >= LINE_BYTES)
      throw new Error("expected a line of text, got no end of it");
    if (end < 0) return undefined;
    const line = this.text.slice(0, end);
    this.text = "";
    return line;
  }
}

function say(bell: Doorbell, line: string): void {
  bell.send(new TextEncoder().encode(`${line}\n`));
}

/** @throws Error that says that there is no room, or what else the system says. */
function reserve(folder: string): string {
  try {
    return places.createFile(folder, MAPPING_BYTES);
  } catch (error) {
    if ((error as { code?: string }).code !== "ENOSPC") throw error;
    throw new Error(`${folder} has no room for ${MAPPING_BYTES} bytes`, { cause: error });
  }
}

function mapper() {
  const files = mappedFiles();
  if ("unavailable" in files) throw new Error(files.unavailable);
  return files;
}

/** Undefined for the address that asks for a free name. @throws when it is malformed. */
function socketPath(address: string, folder: string): string | undefined {
  if (address === "shm://") return undefined;
  const [, name, path] = /^shm:\/\/(?:([\w.-]+)|(\/.+))$/.exec(address) ?? [];
  if (name) return `${folder}/${name}.sock`;
  if (path) return path;
  throw malformed(address);
}

function addressOf(path: string, folder: string): string {
  const name = path.startsWith(`${folder}/`)
    ? /^([\w.-]+)\.sock$/.exec(path.slice(folder.length + 1))?.[1]
    : undefined;
  return name ? `shm://${name}` : `shm://${path}`;
}

function malformed(address: string): Error {
  return new Error(`"${address}" is not a shared memory address; expected shm://name or shm:///path`);
}

function randomName(): string {
  return Array.from(systemRandom.bytes(6), (byte) => byte.toString(36).padStart(2, "0")).join("");
}
