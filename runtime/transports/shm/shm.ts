/**
 * Shared memory between processes of one machine and one user. A connection is one file that both map, with a ring
 * of bytes in each direction (ring.ts), and a Unix domain socket as its doorbell and as the sign that the other
 * process lives (doorbell.ts). Tensors travel at memory speed and small messages as fast as over the socket alone.
 *
 * Opening one: the connector connects to the listener's socket, which names its folder; the connector makes a file
 * there, takes its space for real, maps it and names it; the listener maps it, unlinks it and says so. From then
 * on the socket only rings.
 *
 * Whoever can connect is a process of the same user (folder 0700, socket and file 0600). A peer that writes what
 * it likes into the mapping can spoil its own link and nothing else: counts that cannot be true close the pipe
 * (`RingCorrupted`), and bytes are bytes. What it could do as any process of this user can, by other means too, is
 * to shorten the file before it is unlinked, which would kill both.
 */

import { type Clock, systemClock } from "../../clock.ts";
import { asError, RuntimeError, type RuntimeErrorCode } from "../../errors.ts";
import { type Mapping, mappedFiles } from "../../platform/mapped.ts";
import { systemRandom } from "../../random.ts";
import type { Listener, Pipe, PipeHandlers, Transport } from "../transport.ts";
import { connectTo, type Doorbell, type DoorbellHandlers } from "./doorbell.ts";
import { MAPPING_BYTES, ShmPipe } from "./pipe.ts";
import * as places from "./places.ts";

export interface ShmOptions {
  /** Where sockets of `shm://name` and the files to be mapped are. By default this user's folder in /dev/shm. */
  readonly folder?: string;
  readonly clock?: Clock;
}

const PATIENCE_MS = 10_000;
/** Begins what the listener says; another version of the layout gets another number. */
const GREETING = "troupe-shm-1";
const LINE_BYTES = 1024;

/** Why this platform has no shared memory between processes, or null if it has. Does not throw. */
export function shmUnavailable(): string | null {
  const files = mappedFiles();
  return "unavailable" in files ? files.unavailable : null;
}

/**
 * Addresses are `shm://name`, a socket in this user's folder, or `shm:///path/of/a/socket`; `shm://` asks for a
 * free name. Where files cannot be mapped, `listen` and `connect` are refused with the reason (`shmUnavailable`).
 */
export function shm(options: ShmOptions = {}): Transport {
  const clock = options.clock ?? systemClock;
  const folder = () => options.folder ?? places.userFolder();
  return {
    scheme: "shm",
    async listen(address, accept): Promise<Listener> {
      try {
        const own = folder();
        const path = socketPath(address, own) ?? socketPath(`shm://${randomName()}`, own)!;
        mapper();
        places.ownFolder(own);
        await places.sweep(own, clock);
        const opened = (bell: Doorbell) => new Accepting(bell, own, clock, `shm://${own}`, accept);
        const listener = await places.listenOn(path, clock, opened);
        return { address: addressOf(path, own), close: () => listener.close() };
      } catch (error) {
        throw refused("LISTEN_FAILED", `cannot listen on ${address}`, error);
      }
    },
    async connect(address, handlers): Promise<Pipe> {
      const pipe = Promise.withResolvers<Pipe>();
      let connecting: Connecting | undefined;
      const timer = clock.setTimer(
        () => connecting?.fail(new Error(`no answer within ${PATIENCE_MS} ms`)),
        PATIENCE_MS,
      );
      try {
        mapper();
        const path = socketPath(address, folder());
        if (!path) throw malformed(address);
        await connectTo(path, (bell) => {
          connecting = new Connecting(bell, clock, address, handlers, pipe);
          return connecting;
        });
        return await pipe.promise;
      } catch (error) {
        throw refused("CONNECT_FAILED", `cannot connect to ${address}`, error);
      } finally {
        clock.clearTimer(timer);
      }
    },
  };
}

type Open = (pipe: Pipe) => PipeHandlers;

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
    this.bell.close();
    this.opened.reject(error);
  }

  private greeted(said: string): void {
    const [, version, bytes, folder] = /^(\S+) (\d+) (\/.*)$/.exec(said) ?? [];
    if (version !== GREETING || Number(bytes) !== MAPPING_BYTES || !folder) {
      throw new Error(`expected "${GREETING} ${MAPPING_BYTES} <folder>", got "${said}"`);
    }
    const name = places.createFile(folder, MAPPING_BYTES);
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

function refused(code: RuntimeErrorCode, what: string, error: unknown): RuntimeError {
  const { message } = asError(error);
  const full = (error as { code?: string }).code === "ENOSPC" ? `no room for ${MAPPING_BYTES} bytes: ` : "";
  return new RuntimeError(code, `${what}: ${full}${message}`, { cause: error });
}
