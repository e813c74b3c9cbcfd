import { expect, test } from "bun:test";
import { decodePlain, encodePlain } from "../../protocols/codec.ts";
import type { ProtocolError } from "../../protocols/errors.ts";
import { Handshake, type HandshakeStep, type Identity } from "../../protocols/handshake.ts";

const identity = (name: string): Identity => ({
  id: `${name}-1`,
  name,
  incarnation: 1795218367160,
  addresses: [`tcp://127.0.0.1:1`],
  capabilities: { cores: 2, engine: "native" },
});

function pair(tokens: { initiator?: string; responder?: string } = {}) {
  const make = (role: "initiator" | "responder") =>
    new Handshake({
      role,
      self: identity(role),
      token: tokens[role],
      nonce: crypto.getRandomValues(new Uint8Array(32)),
    });
  return { initiator: make("initiator"), responder: make("responder") };
}

async function run({ initiator, responder }: ReturnType<typeof pair>) {
  const welcome = await responder.receive(initiator.hello());
  const proof = await initiator.receive(welcome.send!);
  const ready = await responder.receive(proof.send!);
  const last = await initiator.receive(ready.send!);
  return { ready, last };
}

async function code(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "accepted",
    (error: ProtocolError) => error.code,
  );
}

for (const tokens of [{}, { initiator: "secret", responder: "secret" }]) {
  test(`both learn who the other is ${tokens.initiator ? "with the same token" : "without tokens"}`, async () => {
    const { ready, last } = await run(pair(tokens));
    expect(ready).toMatchObject({ done: true, peer: identity("initiator") } as Partial<HandshakeStep>);
    expect(last).toEqual({ done: true, peer: identity("responder") });
  });
}

test("another token, none, and one too many are refused by name", async () => {
  expect(await code(run(pair({ initiator: "a", responder: "b" })))).toBe("WRONG_TOKEN");
  expect(await code(run(pair({ responder: "b" })))).toBe("WRONG_TOKEN");
  expect(await code(run(pair({ initiator: "a" })))).toBe("WRONG_TOKEN");
});

test("a responder that lets everybody in is not believed by an initiator with a token", async () => {
  const { initiator, responder } = pair({ initiator: "a", responder: "a" });
  const welcome = await responder.receive(initiator.hello());
  await initiator.receive(welcome.send!);
  expect(await code(initiator.receive(encodePlain(["ready", new Uint8Array(0)])))).toBe("WRONG_TOKEN");
});

test("a proof is of no use in another handshake, nor to the other side", async () => {
  const tokens = { initiator: "s", responder: "s" };
  const [first, second] = [pair(tokens), pair(tokens)];
  const welcome = await first.responder.receive(first.initiator.hello());
  const proof = await first.initiator.receive(welcome.send!);
  await second.responder.receive(second.initiator.hello());
  expect(await code(second.responder.receive(proof.send!))).toBe("WRONG_TOKEN");
  const [, mac] = decodePlain(proof.send!, 8) as [string, Uint8Array];
  expect(await code(first.initiator.receive(encodePlain(["ready", mac])))).toBe("WRONG_TOKEN");
});

test("another version is refused with a message that names both", async () => {
  const { initiator, responder } = pair();
  const hello = decodePlain(initiator.hello(), 8) as unknown[];
  hello[1] = 42;
  const refused = responder.receive(encodePlain(hello));
  expect(await code(refused)).toBe("VERSION_MISMATCH");
  expect(refused).rejects.toThrow(/version 1 .* version 42/);
});

test("steps out of order and malformed identities are refused", async () => {
  expect(await code(pair().responder.receive(encodePlain(["proof", new Uint8Array(32)])))).toBe(
    "UNEXPECTED_FRAME",
  );
  const nonce = new Uint8Array(32);
  expect(await code(pair().responder.receive(encodePlain(["hello", 1, ["id"], nonce])))).toBe(
    "MALFORMED_HEADER",
  );
  const short = ["hello", 1, ["i", "n", 1, [], {}], new Uint8Array(3)];
  expect(await code(pair().responder.receive(encodePlain(short)))).toBe("MALFORMED_HEADER");
});
