import { describe, expect, test } from "bun:test";
import { decodePlain, encodePlain } from "../../protocols/codec.ts";
import type { ProtocolError } from "../../protocols/errors.ts";
import { PROTOCOL_VERSION } from "../../protocols/frame.ts";
import {
  type Channel,
  decodeClose,
  encodeClose,
  Handshake,
  type HandshakeOptions,
  type HandshakeStep,
  type Identity,
} from "../../protocols/handshake.ts";
import { Replays } from "../../protocols/replays.ts";

const identity = (name: string): Identity => ({
  id: `${name}-1`,
  name,
  incarnation: 1795218367160,
  addresses: [`tcp://127.0.0.1:1`],
  capabilities: { cores: 2, engine: "native" },
});

const CERTIFICATES = { near: "aa".repeat(32), far: "bb".repeat(32), other: "cc".repeat(32) };
const SEEN: Channel = { local: CERTIFICATES.near, remote: CERTIFICATES.far };
const flipped = ({ local, remote }: Channel): Channel => ({ local: remote, remote: local });

interface Settings extends Partial<Omit<HandshakeOptions, "role" | "channel">> {
  readonly channel?: Channel;
}

function pair({ initiator, responder }: { initiator?: Settings; responder?: Settings } = {}) {
  const make = (role: "initiator" | "responder", { channel, ...settings }: Settings = {}) =>
    new Handshake({
      ...{ role, self: identity(role), nonce: crypto.getRandomValues(new Uint8Array(32)) },
      channel: () => channel,
      ...settings,
    });
  return { initiator: make("initiator", initiator), responder: make("responder", responder) };
}

const withTokens = (initiator?: string, responder?: string) =>
  pair({ initiator: { token: initiator }, responder: { token: responder } });

function run({ initiator, responder }: ReturnType<typeof pair>) {
  const welcome = responder.receive(initiator.hello());
  const proof = initiator.receive(welcome.send!);
  const ready = responder.receive(proof.send!);
  const last = initiator.receive(ready.send!);
  return { ready, last };
}

function code(work: () => unknown): string {
  try {
    work();
    return "accepted";
  } catch (error) {
    return (error as ProtocolError).code;
  }
}

for (const token of [undefined, "secret"]) {
  for (const channel of [undefined, SEEN]) {
    const how = `${token ? "with the same token" : "without tokens"}, ${channel ? "encrypted" : "in plain text"}`;
    test(`both learn who the other is ${how}`, () => {
      const initiator = { token, ...(channel ? { channel } : {}) };
      const responder = { token, ...(channel ? { channel: flipped(channel) } : {}) };
      const { ready, last } = run(pair({ initiator, responder }));
      expect(ready).toMatchObject({ done: true, peer: identity("initiator") } as Partial<HandshakeStep>);
      expect(last).toEqual({ done: true, peer: identity("responder") });
    });
  }
}

test("another token, none, and one too many are refused by name", () => {
  expect(code(() => run(withTokens("a", "b")))).toBe("WRONG_TOKEN");
  expect(code(() => run(withTokens(undefined, "b")))).toBe("NO_TOKEN");
  expect(code(() => run(withTokens("a", undefined)))).toBe("NO_TOKEN");
});

test("a responder that lets everybody in is not believed by an initiator with a token", () => {
  const { initiator, responder } = withTokens("a", "a");
  initiator.receive(responder.receive(initiator.hello()).send!);
  expect(code(() => initiator.receive(encodePlain(["ready", new Uint8Array(0)])))).toBe("NO_TOKEN");
});

test("a proof is of no use in another handshake, nor to the other side", () => {
  const [first, second] = [withTokens("s", "s"), withTokens("s", "s")];
  const proof = first.initiator.receive(first.responder.receive(first.initiator.hello()).send!);
  second.responder.receive(second.initiator.hello());
  expect(code(() => second.responder.receive(proof.send!))).toBe("WRONG_TOKEN");
  const [, own] = decodePlain(proof.send!, 8) as [string, Uint8Array];
  expect(code(() => first.initiator.receive(encodePlain(["ready", own])))).toBe("WRONG_TOKEN");
});

describe("a recorded handshake", () => {
  const recorded = (replays: Replays, token: string | undefined) => {
    const { initiator, responder } = pair({ initiator: { token }, responder: { token, replays } });
    const hello = initiator.hello().slice();
    const proof = initiator.receive(responder.receive(hello).send!).send!.slice();
    responder.receive(proof);
    return { hello, proof };
  };

  test("is refused by name", () => {
    const replays = new Replays();
    const { hello } = recorded(replays, "s");
    const { responder } = pair({ responder: { token: "s", replays } });
    expect(code(() => responder.receive(hello))).toBe("REPLAYED");
  });

  test("proves nothing to a responder that does not remember it", () => {
    const { hello, proof } = recorded(new Replays(), "s");
    const { responder } = pair({ responder: { token: "s", replays: new Replays() } });
    responder.receive(hello);
    expect(code(() => responder.receive(proof))).toBe("WRONG_TOKEN");
  });

  test("is forgotten in the end: the memory is bounded", () => {
    const replays = new Replays();
    const { hello } = recorded(replays, "s");
    for (let i = 0; i < 1023; i++) replays.add(Uint8Array.of(i & 255, i >> 8));
    expect(replays.has(hello)).toBe(true);
    replays.add(Uint8Array.of(1, 2, 3));
    expect(replays.has(hello)).toBe(false);
  });
});

describe("what a stranger says of itself", () => {
  const met = (self: Partial<Identity>) =>
    code(() => run(pair({ initiator: { self: { ...identity("stranger"), ...self } } })));

  test.each([
    ["a name with a terminal's commands", { name: "\x1b[2Jdesk" }],
    ["a name of two lines", { name: "desk\ntroupe: all is well" }],
    ["a name that turns the line around", { name: "desk\u202e" }],
    ["a name that is too long", { name: "n".repeat(257) }],
    ["no id", { id: "" }],
    ["an id of two lines", { id: "a\nb" }],
    ["an address of two lines", { addresses: ["tcp://a\nb:1"] }],
    ["an incarnation that nothing exceeds", { incarnation: Number.POSITIVE_INFINITY }],
    ["an incarnation that is no number", { incarnation: Number.NaN }],
    ["an incarnation that is no whole number", { incarnation: 1.5 }],
    ["a negative incarnation", { incarnation: -1 }],
  ])("%s is refused, in words that can be shown", (_, self) => {
    expect(met(self)).toBe("MALFORMED_HEADER");
    const { responder } = pair();
    const stranger = new Handshake({
      ...{ role: "initiator", self: { ...identity("stranger"), ...self }, nonce: new Uint8Array(32) },
    });
    expect(() => responder.receive(stranger.hello())).toThrow(/^[^\p{Cc}\u202e]+$/u);
  });

  test("any other name is fine, but for none", () => {
    expect(met({ name: "" })).toBe("MALFORMED_HEADER");
    for (const name of ["Küche 2", "書斎", "👩‍💻", "n".repeat(256)]) expect(met({ name })).toBe("accepted");
  });

  test("the reason for which it closes is one line", () => {
    const closed = decodeClose(encodeClose("NO\nTOKEN", "one\r\n\x1b[31mtwo"));
    expect(closed).toEqual({ code: "NO\ufffdTOKEN", message: "one\ufffd\ufffd\ufffd[31mtwo" });
  });
});

describe("who sits in between and ends the encryption", () => {
  const token = "s";
  const near = { local: CERTIFICATES.near, remote: CERTIFICATES.other };
  const far = { local: CERTIFICATES.far, remote: CERTIFICATES.other };
  const between = () => pair({ initiator: { token, channel: near }, responder: { token, channel: far } });

  test("is found out when it relays", () => {
    expect(code(() => run(between()))).toBe("CHANNEL_MISMATCH");
  });

  test("is found out when it has each side say what the other sees", () => {
    const { initiator, responder } = between();
    const lie = (body: Uint8Array, { local, remote }: Channel) => {
      const fields = decodePlain(body, 8) as unknown[];
      return encodePlain([...fields.slice(0, -1), [remote, local]]);
    };
    const welcome = responder.receive(lie(initiator.hello(), far));
    const proof = initiator.receive(lie(welcome.send!, near));
    expect(code(() => responder.receive(proof.send!))).toBe("WRONG_TOKEN");
  });

  test("cannot talk one side down to plain text", () => {
    const settings = { initiator: { token, channel: near }, responder: { token } };
    expect(code(() => run(pair(settings)))).toBe("CHANNEL_MISMATCH");
  });
});

describe("who says it is the coordinator", () => {
  const claim = { self: { ...identity("chief"), capabilities: { coordinator: true } } };
  const meet = (coordinator: string | undefined, channel: Channel | undefined) =>
    code(() =>
      run(
        pair({
          initiator: { ...claim, ...(channel ? { channel } : {}) },
          responder: { coordinator, ...(channel ? { channel: flipped(channel) } : {}) },
        }),
      ),
    );

  test("has to show the certificate the token names", () => {
    expect(meet(CERTIFICATES.near, SEEN)).toBe("accepted");
    expect(meet(CERTIFICATES.other, SEEN)).toBe("WRONG_CERTIFICATE");
    expect(meet(CERTIFICATES.near, undefined)).toBe("WRONG_CERTIFICATE");
  });

  test("is believed where the token names none", () => {
    expect(meet(undefined, SEEN)).toBe("accepted");
  });
});

test("another version is refused with a message that names both", () => {
  const { initiator, responder } = pair();
  const hello = decodePlain(initiator.hello(), 8) as unknown[];
  hello[1] = 42;
  const refused = () => responder.receive(encodePlain(hello));
  expect(code(refused)).toBe("VERSION_MISMATCH");
  expect(refused).toThrow(new RegExp(`version ${PROTOCOL_VERSION} .* version 42`));
});

test("steps out of order and malformed identities are refused", () => {
  expect(code(() => pair().responder.receive(encodePlain(["proof", new Uint8Array(32)])))).toBe(
    "UNEXPECTED_FRAME",
  );
  const nonce = new Uint8Array(32);
  expect(code(() => pair().responder.receive(encodePlain(["hello", PROTOCOL_VERSION, ["id"], nonce])))).toBe(
    "MALFORMED_HEADER",
  );
  const short = ["hello", PROTOCOL_VERSION, ["i", "n", 1, [], {}], new Uint8Array(3)];
  expect(code(() => pair().responder.receive(encodePlain(short)))).toBe("MALFORMED_HEADER");
});
