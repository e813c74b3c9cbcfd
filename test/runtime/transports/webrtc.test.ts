/** WebRTC data channels keep the contract of transports, and open only for those who know the token. */

import { afterEach, describe, expect, test } from "bun:test";
import type { Pipe, PipeHandlers } from "../../../runtime/transports/transport.ts";
import { webrtc } from "../../../runtime/transports/webrtc/webrtc.ts";
import { transportContract } from "../../contract/transport.contract.ts";
import { SignalHub } from "./signal_hub.ts";

transportContract({
  name: "WebRTC",
  make: () => new SignalHub().between(webrtc),
  anyAddress: "webrtc://",
  deadAddress: "webrtc://nobody",
});

const cleanups: (() => unknown)[] = [];
afterEach(async () => {
  for (const cleanup of cleanups.splice(0).reverse()) await cleanup();
});

const ignore: PipeHandlers = { onData() {}, onDrain() {}, onClose() {} };

async function listening(hub: SignalHub) {
  const transport = hub.between(webrtc);
  const accepted = Promise.withResolvers<Pipe>();
  const closed = Promise.withResolvers<Error | undefined>();
  const listener = await transport.listen("webrtc://", (pipe) => {
    cleanups.push(() => pipe.close());
    accepted.resolve(pipe);
    return { ...ignore, onClose: closed.resolve };
  });
  cleanups.push(() => listener.close());
  return { transport, accepted: accepted.promise, closed: closed.promise };
}

test("both ends name the same two certificates", async () => {
  const { transport, accepted } = await listening(new SignalHub());
  const near = await transport.connect("webrtc://b", () => ignore);
  cleanups.push(() => near.close());
  const far = await accepted;
  expect(near.channel!.local).toMatch(/^[0-9a-f]{64}$/);
  expect(far.channel).toEqual({ local: near.channel!.remote, remote: near.channel!.local });
});

test("everything accepted before a close arrives, also when the pipe was full", async () => {
  const hub = new SignalHub();
  const transport = hub.between(webrtc);
  let received = 0;
  const closed = Promise.withResolvers<Error | undefined>();
  await transport.listen("webrtc://", () => ({
    ...ignore,
    onData: (bytes) => {
      received += bytes.byteLength;
    },
    onClose: closed.resolve,
  }));
  const near = await transport.connect("webrtc://b", () => ignore);
  const accepted = near.write(new Uint8Array(8 * 2 ** 20));
  expect(accepted).toBeLessThan(8 * 2 ** 20);
  near.close();
  expect(await closed.promise).toBeUndefined();
  expect(received).toBe(accepted);
});

test("an open connection outlives the link its signals took", async () => {
  const hub = new SignalHub();
  const { transport, accepted } = await listening(hub);
  const near = await transport.connect("webrtc://b", () => ignore);
  cleanups.push(() => near.close());
  const far = await accepted;
  hub.cut("a", "c");
  const arrived = Promise.withResolvers<number>();
  far.handlers = { ...ignore, onData: (bytes) => arrived.resolve(bytes[0]!) };
  near.write(Uint8Array.of(7));
  expect(await arrived.promise).toBe(7);
});

test("two that call each other at the same moment get two pipes that both work", async () => {
  const hub = new SignalHub();
  const both = ["a", "b"].map((id) => {
    const transport = webrtc();
    transport.attach!(hub.node(id).switchboard);
    return transport;
  });
  const accepted: Pipe[] = [];
  for (const transport of both) {
    await transport.listen("webrtc://", (pipe) => {
      accepted.push(pipe);
      return ignore;
    });
  }
  const made = await Promise.all([
    both[0]!.connect("webrtc://b", () => ignore),
    both[1]!.connect("webrtc://a", () => ignore),
  ]);
  cleanups.push(() => [...made, ...accepted].map((pipe) => pipe.close()));
  expect(new Set(made.map((pipe) => pipe.channel!.local)).size).toBe(2);
});

test("servers that are no ICE servers are an error at once", async () => {
  const hub = new SignalHub();
  const wrong = hub.between(() => webrtc({ iceServers: [{ urls: "http://127.0.0.1" }] }));
  await expect(wrong.listen("webrtc://", () => ignore)).rejects.toThrow("ICE servers");
  await expect(wrong.connect("webrtc://b", () => ignore)).rejects.toMatchObject({ code: "CONNECT_FAILED" });
});

test("servers that do not answer are no error", async () => {
  const hub = new SignalHub();
  const silent = hub.between(() => webrtc({ iceServers: [{ urls: "stun:127.0.0.1:9" }] }));
  await silent.listen("webrtc://", (pipe) => {
    cleanups.push(() => pipe.close());
    return ignore;
  });
  const pipe = await silent.connect("webrtc://b", () => ignore);
  cleanups.push(() => pipe.close());
});

describe("signals", () => {
  type Data = [kind: string, attempt: string, text: string, code: Uint8Array];

  test("with another certificate's fingerprint are not heard", async () => {
    const hub = new SignalHub();
    const { transport } = await listening(hub);
    let answers = 0;
    hub.tap = (signal) => {
      const [kind, attempt, text, code] = signal.data as Data;
      if (kind === "answer") answers++;
      if (kind !== "offer") return signal;
      const other = text.replace(/(a=fingerprint:sha-256 )\S\S/, "$1FF");
      // The other end is never to answer; the attempt is ended here, instead of by its patience.
      setTimeout(() => hub.cut("a", "c"), 30);
      return { ...signal, data: [kind, attempt, other, code] };
    };
    const refused = transport.connect("webrtc://b", () => ignore);
    await expect(refused).rejects.toMatchObject({ code: "CONNECT_FAILED" });
    expect(answers).toBe(0);
  });

  test("of a node with another token, or none, are not heard", async () => {
    for (const token of ["another", undefined]) {
      const hub = new SignalHub("secret", token as string);
      if (token === undefined) Object.assign(hub.node("b").switchboard, { token });
      let offers = 0;
      let answers = 0;
      const { transport } = await listening(hub);
      hub.tap = (signal) => {
        const [kind] = signal.data as Data;
        if (kind === "offer" && ++offers === 2) setTimeout(() => hub.cut("a", "c"), 20);
        if (kind === "answer") answers++;
        return signal;
      };
      const refused = transport.connect("webrtc://b", () => ignore);
      await expect(refused).rejects.toMatchObject({ code: "CONNECT_FAILED" });
      expect(answers).toBe(0);
    }
  });

  test("that say no end the attempt with the words of who refused", async () => {
    const transport = new SignalHub().between(webrtc);
    const refused = transport.connect("webrtc://b", () => ignore);
    await expect(refused).rejects.toThrow("it takes no WebRTC connections");
  });

  test("that are no SDP end the attempt", async () => {
    const hub = new SignalHub(undefined, undefined);
    for (const id of ["a", "b", "c"]) Object.assign(hub.node(id).switchboard, { token: undefined });
    const { transport } = await listening(hub);
    hub.tap = (signal) => {
      const [kind, attempt, , code] = signal.data as Data;
      return kind === "offer" ? { ...signal, data: [kind, attempt, "nonsense", code] } : signal;
    };
    const refused = transport.connect("webrtc://b", () => ignore);
    await expect(refused).rejects.toMatchObject({ code: "CONNECT_FAILED" });
  });
});
