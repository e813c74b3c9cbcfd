/** Shared memory between real processes: who is killed, who does not read, who lies, and what is left of it. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import * as fs from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { collectGarbage } from "../../../../runtime/platform/garbage.ts";
import { type Mapping, mappedFiles } from "../../../../runtime/platform/mapped.ts";
import { scriptCommand } from "../../../../runtime/platform/process.ts";
import { connectTo, type Doorbell, listenAt } from "../../../../runtime/transports/shm/doorbell.ts";
import { MAPPING_BYTES, RING_CAPACITY } from "../../../../runtime/transports/shm/pipe.ts";
import { createFile } from "../../../../runtime/transports/shm/places.ts";
import { HEAD, TAIL } from "../../../../runtime/transports/shm/ring.ts";
import { shm, shmUnavailable } from "../../../../runtime/transports/shm/shm.ts";
import type { Pipe, PipeHandlers } from "../../../../runtime/transports/transport.ts";

class End implements PipeHandlers {
  pipe!: Pipe;
  received = 0;
  /** The last eight bytes: what `process.ts` says it has got. */
  private last: Uint8Array<ArrayBuffer> = new Uint8Array(8);
  drains = 0;
  readonly closes: (Error | undefined)[] = [];
  private readonly waiters: (() => void)[] = [];

  onData(bytes: Uint8Array): void {
    this.received += bytes.byteLength;
    this.last = Uint8Array.from([...this.last, ...bytes.subarray(-8)]).slice(-8);
    this.changed();
  }
  get counted(): number {
    return new Float64Array(this.last.buffer)[0]!;
  }
  onDrain(): void {
    this.drains++;
    this.changed();
  }
  onClose(error?: Error): void {
    this.closes.push(error);
    this.changed();
  }
  async until(condition: () => boolean): Promise<void> {
    while (!condition()) await new Promise<void>((resolve) => this.waiters.push(resolve));
  }
  private changed(): void {
    for (const waiter of this.waiters.splice(0)) waiter();
  }
}

const unavailable = shmUnavailable();
const linux = process.platform === "linux";

describe.skipIf(unavailable !== null)(
  `shared memory${unavailable === null ? "" : `: ${unavailable}`}`,
  () => {
    const cleanups: (() => unknown)[] = [];
    let folder = "";

    beforeEach(() => {
      folder = fs.mkdtempSync(join(fs.existsSync("/dev/shm") ? "/dev/shm" : tmpdir(), "troupe-test-"));
      cleanups.push(() => fs.rmSync(folder, { recursive: true, force: true }));
    });
    afterEach(async () => {
      for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
    });

    async function run(...args: string[]) {
      const [command, ...before] = scriptCommand(new URL("./process.ts", import.meta.url));
      const child = spawn(command, [...before, ...args], { stdio: ["ignore", "pipe", "inherit"] });
      const exited = once(child, "exit");
      const kill = async () => {
        if (child.exitCode === null && child.signalCode === null) process.kill(child.pid!, "SIGKILL");
        await exited;
      };
      cleanups.push(kill);
      const [line] = await once(child.stdout!, "data");
      return { child, kill, said: String(line).trim() };
    }

    async function connected(address: string): Promise<End> {
      const end = new End();
      end.pipe = await shm({ folder }).connect(address, () => end);
      cleanups.push(() => end.pipe.close());
      return end;
    }

    async function listening(name = "shm://here") {
      const ends: End[] = [];
      const accepted: (() => void)[] = [];
      const listener = await shm({ folder }).listen(name, (pipe) => {
        const end = new End();
        end.pipe = pipe;
        ends.push(end);
        for (const tell of accepted.splice(0)) tell();
        return end;
      });
      cleanups.push(() => listener.close());
      const next = async (count: number) => {
        while (ends.length < count) await new Promise<void>((resolve) => accepted.push(resolve));
        return ends[count - 1]!;
      };
      return { listener, ends, next };
    }

    test("only this user can get at it, and no file is left once a connection stands", async () => {
      const { listener, next } = await listening();
      const near = await connected(listener.address);
      await next(1);
      expect(fs.readdirSync(folder)).toEqual(["here.sock"]);
      expect(fs.statSync(join(folder, "here.sock")).mode & 0o777).toBe(0o600);
      fs.chmodSync(folder, 0o755);
      await expect(shm({ folder }).listen("shm://", () => new End())).rejects.toThrow("with mode 700");
      near.pipe.close();
    });

    test("a listener that is killed ends its pipes; its socket is taken over", async () => {
      const { said, kill } = await run("listen", folder);
      const near = await connected(said);
      near.pipe.write(Uint8Array.of(1));
      await near.until(() => near.counted === 1);
      await kill();
      await near.until(() => near.closes.length === 1);
      expect(near.pipe.write(Uint8Array.of(1))).toBe(0);
      expect(fs.readdirSync(folder)).toEqual(["counter.sock"]);
      const { listener } = await listening(said);
      expect(listener.address).toBe(said);
      await connected(said);
    });

    test("a connector that is killed at any moment leaves nothing that the next listener does not remove", async () => {
      const { listener, ends } = await listening();
      for (let i = 0; i < 4; i++) {
        const { kill } = await run("connect", folder, listener.address);
        await new Promise((resolve) => setTimeout(resolve, 5 * i));
        await kill();
      }
      for (const end of ends) await end.until(() => end.closes.length === 1);
      await listening("shm://next");
      expect(fs.readdirSync(folder).sort()).toEqual(["here.sock", "next.sock"]);
    });

    test("what dead processes left is removed, what may be alive is not", async () => {
      const { said, kill, child } = await run("listen", folder);
      expect(said).toBe("shm://counter");
      const mine = createFile(folder, 4096);
      const dead = mine.replace(`-${process.pid}-`, `-${child.pid}-`);
      const elsewhere = mine.replace(/^map-\d+-/, "map-1-");
      const old = elsewhere.replace(/.$/, (digit) => (digit === "0" ? "1" : "0"));
      for (const name of [dead, elsewhere, old, "notes.txt"]) fs.writeFileSync(join(folder, name), "");
      fs.utimesSync(join(folder, old), 1, 1);
      await kill();
      await listening();
      expect(fs.readdirSync(folder).sort()).toEqual(["here.sock", elsewhere, mine, "notes.txt"].sort());
    });

    test("a file in the way is not removed", async () => {
      fs.writeFileSync(join(folder, "here.sock"), "not a socket");
      await expect(listening()).rejects.toMatchObject({ code: "LISTEN_FAILED" });
      expect(fs.readFileSync(join(folder, "here.sock"), "utf8")).toBe("not a socket");
    });

    test("a peer that reads nothing holds one ring full, and gets all of it when it reads again", async () => {
      const { said, child } = await run("listen", folder);
      const near = await connected(said);
      near.pipe.write(Uint8Array.of(1));
      await near.until(() => near.counted === 1);
      process.kill(child.pid!, "SIGSTOP");
      const bytes = new Uint8Array(RING_CAPACITY / 4);
      let accepted = 0;
      for (let i = 0; i < 64; i++) accepted += near.pipe.write(bytes);
      expect(accepted).toBeLessThanOrEqual(2 * RING_CAPACITY);
      expect(near.pipe.write(bytes)).toBe(0);
      expect(near.drains).toBe(0);
      process.kill(child.pid!, "SIGCONT");
      await near.until(() => near.drains === 1);
      await near.until(() => near.counted === 1 + accepted);
    });

    test("an address is shm://name, or a path whose socket may be anywhere", async () => {
      const path = join(folder, "somewhere");
      const { listener, next } = await listening(`shm://${path}`);
      expect(listener.address).toBe(`shm://${path}`);
      const near = await connected(listener.address);
      near.pipe.write(Uint8Array.of(1));
      const far = await next(1);
      await far.until(() => far.received === 1);
      await expect(listening("shm://../escape")).rejects.toThrow("expected shm://name or shm:///path");
      await expect(listening(`shm:///${"x".repeat(120)}`)).rejects.toThrow("at most 103 bytes");
    });

    test.skipIf(!linux)(
      "two hundred connections leave no memory behind",
      async () => {
        const mapped = () => {
          collectGarbage();
          return fs
            .readFileSync("/proc/self/maps", "utf8")
            .split("\n")
            .filter((line) => line.includes(folder)).length;
        };
        const { listener, next } = await listening();
        for (let i = 1; i <= 200; i++) {
          const near = await connected(listener.address);
          const far = await next(i);
          near.pipe.close();
          await far.until(() => far.closes.length === 1);
        }
        // The last are unmapped a moment after the other end has heard of their close.
        while (mapped() >= 20) await new Promise((resolve) => setTimeout(resolve, 5));
      },
      60_000,
    ); // each takes 2 MiB of zeros; a test that is cut off loses its folder while it still connects

    describe("a full disk", () => {
      const why = !linux ? "needs Linux" : process.getuid?.() !== 0 ? "needs root to mount one" : null;
      test.skipIf(why !== null)(`is an error of the connect${why ? ` (${why})` : ""}`, async () => {
        execFileSync("mount", ["-t", "tmpfs", "-o", "size=1m,mode=700", "none", folder]);
        cleanups.push(() => execFileSync("umount", ["-l", folder]));
        const { listener, ends } = await listening();
        const refused = connected(listener.address);
        await expect(refused).rejects.toMatchObject({ code: "CONNECT_FAILED" });
        await expect(refused).rejects.toThrow(`has no room for ${MAPPING_BYTES} bytes`);
        expect(fs.readdirSync(folder)).toEqual(["here.sock"]);
        expect(ends).toEqual([]);
      });
    });

    describe("a peer that lies", () => {
      /** Says lines to a listener, or to whoever connects; what comes back is gathered. */
      function liar() {
        const heard: string[] = [];
        const begun = Promise.withResolvers<void>();
        const closed = Promise.withResolvers<void>();
        let bell!: Doorbell;
        let tell: (() => void) | undefined;
        const opened = (with_: Doorbell) => {
          bell = with_;
          begun.resolve();
          return {
            received(bytes: Uint8Array) {
              heard.push(new TextDecoder().decode(bytes));
              tell?.();
            },
            closed: () => closed.resolve(),
          };
        };
        const hears = async (text: string) => {
          while (!heard.join("").includes(text)) await new Promise<void>((resolve) => (tell = resolve));
        };
        const say = (text: string) => bell.send(new TextEncoder().encode(text));
        return {
          opened,
          say,
          hears,
          begun: begun.promise,
          closed: closed.promise,
          ring: () => bell.ring(),
          close: () => bell.close(),
        };
      }

      /** A connection to a listener of ours whose connector is ours to spoil. */
      async function spoiled(): Promise<{ far: End; mapping: Mapping; words: Int32Array[]; ring(): void }> {
        const { next } = await listening();
        const it = liar();
        await connectTo(join(folder, "here.sock"), it.opened);
        cleanups.push(it.close);
        await it.hears(folder);
        const name = createFile(folder, MAPPING_BYTES);
        const files = mappedFiles();
        if ("unavailable" in files) throw new Error(files.unavailable);
        const mapping = files.map(join(folder, name), MAPPING_BYTES);
        it.say(`${name}\n`);
        await it.hears("ok");
        const { buffer, byteOffset } = mapping.bytes;
        const words = [0, MAPPING_BYTES / 2].map((at) => new Int32Array(buffer, byteOffset + at, 1024));
        return { far: await next(1), mapping, words, ring: it.ring };
      }

      test.each([-1, 2 ** 31 - 1, RING_CAPACITY + 1])(
        "about what it wrote (%p) loses its pipe",
        async (count) => {
          const { far, words, ring } = await spoiled();
          Atomics.store(words[0]!, TAIL, count);
          ring();
          await far.until(() => far.closes.length === 1);
          expect(far.closes[0]).toMatchObject({ code: "RING_CORRUPTED" });
          expect(far.received).toBe(0);
        },
      );

      test("about what it read loses its pipe", async () => {
        const { far, words } = await spoiled();
        Atomics.store(words[1]!, HEAD, 5);
        expect(far.pipe.write(Uint8Array.of(1))).toBe(0);
        await far.until(() => far.closes.length === 1);
        expect(far.closes[0]).toMatchObject({ code: "RING_CORRUPTED" });
      });

      test("and always has more neither keeps others waiting nor is read after it is gone", async () => {
        const { far, words, ring } = await spoiled();
        // Every byte that is taken makes room for another that was never written.
        far.onData = (bytes) => {
          far.received += bytes.byteLength;
          Atomics.add(words[0]!, TAIL, bytes.byteLength);
        };
        Atomics.store(words[0]!, TAIL, 1024);
        ring();
        await new Promise((resolve) => setTimeout(resolve, 20));
        expect(far.closes).toEqual([]);
        far.pipe.close();
        const { received } = far;
        await new Promise((resolve) => setTimeout(resolve, 5));
        expect(far.received).toBe(received);
      });

      test.each([
        ["a path", "../../etc/passwd\n"],
        ["another kind of file", "here.sock\n"],
        ["a file that is not there", "map-0-1-0123456789abcdef\n"],
        ["a long line", `${"x".repeat(5000)}\n`],
        ["a line without an end", "x".repeat(5000)],
      ])("about a file is refused: %s", async (_, line) => {
        const { listener, ends, next } = await listening();
        const it = liar();
        await connectTo(join(folder, "here.sock"), it.opened);
        await it.hears(folder);
        it.say(line);
        await it.hears("refused: ");
        await it.closed;
        expect(ends).toEqual([]);
        await connected(listener.address); // others are served as before
        await next(1);
      });

      test("as a listener is named by the connect", async () => {
        const it = liar();
        const listener = await listenAt(join(folder, "here.sock"), it.opened);
        cleanups.push(() => listener.close());
        const refused = connected("shm://here");
        await it.begun;
        it.say("HTTP/1.1 400 Bad Request\r\n");
        await expect(refused).rejects.toThrow("HTTP/1.1 400");
      });
    });
  },
);
