/** `troupe node`: a device that is there for one run after the other. */

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Device } from "../../actors/device.ts";
import { DEVICE_NAME } from "../../cli/node.ts";
import {
  createCertificate,
  createToken,
  NodeRuntime,
  shmUnavailable,
  systemRandom,
  tcp,
} from "../../runtime/index.ts";
import { type Event, TINY, Troupe, troupe } from "./troupe.ts";

let folder: string;
let running: Troupe[];

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "troupe-node-"));
  running = [];
});

afterEach(() => {
  for (const each of running) each.destroy();
  rmSync(folder, { recursive: true, force: true });
});

function start(...args: readonly string[]): Troupe {
  const each = new Troupe(args);
  running.push(each);
  return each;
}

/** A node and its address. */
async function node(
  name: string,
  ...args: readonly string[]
): Promise<{ node: Troupe; address: string; fingerprint: string | null }> {
  const each = start("node", "--json", "--listen", "tcp://127.0.0.1:0", "--name", name, ...args);
  const { address, pid, fingerprint } = await each.until(({ event }) => event === "listening");
  expect(pid).toBe(each.process.pid);
  return { node: each, address, fingerprint };
}

/** Asks a device until it holds no tensor: the end of a run reaches it a moment after the run has ended. */
async function holdsNothing(address: string, token: string): Promise<void> {
  const certificate = await createCertificate();
  const asker = new NodeRuntime({ name: "asker", token, transports: [tcp({ certificate })] });
  try {
    const { id } = await asker.connect(address);
    const device = (await asker.lookup<Device>(id, DEVICE_NAME))!;
    while ((await device.ask.usage()).tensorBytes > 0) await Bun.sleep(20);
  } finally {
    await asker.close();
  }
}

const join2 = (...addresses: readonly string[]) => addresses.flatMap((address) => ["--join", address]);

test("two nodes train together, twice, hold nothing in between and outlive their coordinator", async () => {
  const identity = ["--identity", join(folder, "identity")];
  const made = await troupe("token", "--json", ...identity);
  const { token } = made.events[0]!;
  const [left, right] = await Promise.all([node("left", "--token", token), node("right", "--token", token)]);
  expect(left.fingerprint).toMatch(/^[0-9a-f]{64}$/);
  expect(left.fingerprint).not.toBe(right.fingerprint);
  const joined = ["--token", token, ...identity, ...join2(left.address, right.address)];
  const settings = ["train", "--json", ...TINY, ...joined];
  const encrypted = { transport: "tcp", route: "direct", protection: "encrypted" };

  const killed = start(...settings, "--steps", "100000", "--out", join(folder, "killed"));
  await killed.until(({ event }) => event === "step");
  killed.process.kill("SIGKILL");
  await killed.ended();

  const done: Event[] = [];
  for (const run of ["first", "second"]) {
    const args = ["--steps", "3", "--sample", "0", "--out", join(folder, run)];
    const { code, err, events } = await start(...settings, ...args).ended();
    expect(err).toBe("");
    expect(code).toBe(0);
    expect(events.slice(0, 2)).toEqual([
      { event: "device_joined", name: "left", address: left.address, ...encrypted },
      { event: "device_joined", name: "right", address: right.address, ...encrypted },
    ]);
    for (const each of [left, right]) await holdsNothing(each.address, token);
    done.push(events.at(-1)!);
  }
  const [first, second] = done as [Event, Event];
  expect(second.weights_sha256).toBe(first.weights_sha256);

  for (const each of [left, right]) {
    each.node.process.kill("SIGTERM");
    const { code, err, events } = await each.node.ended();
    expect(code).toBe(143);
    expect(err).toBe("");
    // Nobody came for what it had of the first, whose coordinator was killed.
    expect(events.map(({ event }) => event)).toEqual([
      ...["listening", "used", "kept", "used", "released", "used", "released"],
    ]);
  }
}, 180_000);

test("a node with another token refuses", async () => {
  const { address, node: guarded } = await node("guarded", "--token", createToken(systemRandom));
  const wrong = ["--token", createToken(systemRandom)];
  const { code, err, left } = await troupe("train", ...TINY, ...wrong, ...join2(address));
  expect(code).toBe(1);
  expect(err).toMatch(/^troupe: [^\n]*token[^\n]*\n$/);
  expect(left).toEqual([]);
  guarded.process.kill("SIGTERM");
  expect((await guarded.ended()).err).toMatch(
    /^troupe: refused a connection from tcp:\S+: coordinator [^\n]*\n$/,
  );
}, 120_000);

test("says how it is protected; a run without the token is refused in one line", async () => {
  const token = createToken(systemRandom);
  const encrypted = start("node", "--listen", "tcp://127.0.0.1:0", "--name", "desk", "--token", token);
  const line = /^desk listens on (tcp:\S+), encrypted, certificate( [0-9a-f]{4}){4}…\n$/;
  const [, address] = line.exec(await encrypted.untilLine())!;
  const open = start("node", "--listen", "tcp://127.0.0.1:0", "--name", "open");
  expect(await open.untilLine()).toMatch(/^open listens on tcp:\S+, plain text \(loopback\)\n$/);

  const { code, err } = await troupe("train", ...TINY, ...join2(address!));
  expect(code).toBe(1);
  expect(err).toMatch(/^troupe: [^\n]*speaks TLS and this node plain text[^\n]*\n$/);
}, 120_000);

test("plain text by name still asks for the token", async () => {
  const token = createToken(systemRandom);
  const plain = await node("plain", "--insecure", "--token", token);
  expect(plain.fingerprint).toBeNull();
  const without = await troupe("train", ...TINY, ...join2(plain.address));
  expect(without.err).toMatch(/^troupe: [^\n]*asks for a join token[^\n]*\n$/);
  const out = ["--steps", "1", "--sample", "0", "--out", join(folder, "run")];
  const args = ["--insecure", "--token", token, ...join2(plain.address)];
  const { code, err } = await troupe("train", "--json", ...TINY, ...out, ...args);
  expect(err).toBe("");
  expect(code).toBe(0);
}, 120_000);

test("a port in use is one line", async () => {
  const { address } = await node("first");
  const { code, err, left } = await troupe("node", "--listen", address);
  expect(code).toBe(1);
  expect(err).toBe(
    `troupe: cannot listen on ${address}: the port is in use; choose another, or 0 for a free one\n`,
  );
  expect(left).toEqual([]);
}, 120_000);

test("a node that is joined twice in one run is one device", async () => {
  const { address } = await node("alone");
  const twin = address.replace("127.0.0.1", "localhost");
  const { code, err } = await troupe("train", ...TINY, ...join2(address, twin), "--out", join(folder, "run"));
  expect(code).toBe(1);
  expect(err).toContain(`${twin} is the same node as another --join`);
}, 120_000);

test("a device beside the run is reached through shared memory, unless TCP is asked for", async () => {
  const { address } = await node("near");
  const how = async (run: string, ...args: string[]) => {
    const out = ["--steps", "1", "--sample", "0", "--out", join(folder, run)];
    const { code, err, events } = await troupe(
      "train",
      "--json",
      ...TINY,
      ...join2(address),
      ...out,
      ...args,
    );
    expect(err).toBe("");
    expect(code).toBe(0);
    return events[0];
  };
  const joined = { event: "device_joined", name: "near", address, route: "direct" };
  const nearest = shmUnavailable() === null ? "shm" : "tcp";
  expect(await how("first")).toMatchObject({ ...joined, transport: nearest });
  const plain = { transport: "tcp", protection: "plain text (loopback)" };
  expect(await how("second", "--transport", "tcp")).toEqual({ ...joined, ...plain });
}, 180_000);

test("an attached node ends with its standard input", async () => {
  const { node: attached } = await node("attached", "--attached");
  const { code } = await attached.ended();
  expect(code).toBe(0);
}, 120_000);
