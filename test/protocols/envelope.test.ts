import { expect, test } from "bun:test";
import { Codec } from "../../protocols/codec.ts";
import { EnvelopeCodec, MOST_NAMES, NAME_BYTES } from "../../protocols/envelope.ts";
import type { ProtocolError } from "../../protocols/errors.ts";
import { DEFAULT_LIMITS } from "../../protocols/limits.ts";
import type { Envelope } from "../../protocols/messages.ts";
import { Tensor } from "../../protocols/tensor.ts";
import { seededRandom } from "../../runtime/random.ts";

const hooks = { encodeRef: () => undefined, decodeRef: () => null };

/** Two ends of a link, and what the one has told the other of names. */
function ends(limits = DEFAULT_LIMITS) {
  const codec = new Codec(hooks, limits);
  const told: string[] = [];
  const there = new EnvelopeCodec(codec, limits.headerBytes, () => undefined);
  const here = new EnvelopeCodec(codec, limits.headerBytes, (name) => {
    told.push(new TextDecoder().decode(name));
    there.named(name);
  });
  const cross = (envelope: Envelope) => {
    const { header, segments } = here.encode(envelope);
    const piece = new Uint8Array(header.byteLength + 7).fill(0xff);
    piece.set(header, 3);
    const came = there.decode(piece, segments, 3, 3 + header.byteLength);
    piece.fill(0xff); // it was only borrowed
    return came;
  };
  return { here, there, told, cross };
}

function code(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return (error as ProtocolError).code;
  }
  return "nothing was thrown";
}

const VALUES: unknown[] = [
  ...[null, 0, -1.5, "text", [], [1, 2], [undefined].slice(1), { a: [1] }, 5n, new Date(5)],
  ...[0, 1, 1024, 4095, 4096, 9000].map((length) => new Uint8Array(length).fill(length)),
  ...[Tensor.f32([2], [1, 2]), { deep: [Tensor.zeros("u8", [5000])] }, "x".repeat(10_000)],
];

test("tells, asks and replies survive with any arguments", () => {
  const { cross } = ends();
  const to = 2 ** 53 - 1;
  for (const value of VALUES) {
    for (const args of [[value], [value, value], [1, value, "b"]]) {
      const tell: Envelope = { type: "tell", to, method: "add", args };
      expect(cross(tell)).toEqual(tell);
      const ask: Envelope = { type: "ask", id: 2 ** 40 + 1, to: 0, method: "get", args };
      expect(cross(ask)).toEqual(ask);
    }
    const reply: Envelope = { type: "reply", id: 7, value };
    expect(cross(reply)).toEqual(reply);
  }
  expect(cross({ type: "tell", to, method: "add", args: [] })).toEqual({
    type: "tell",
    to,
    method: "add",
    args: [],
  });
  expect(cross({ type: "reply", id: 1, value: undefined })).toEqual({
    type: "reply",
    id: 1,
    value: undefined,
  });
  expect(cross({ type: "lookup", id: 4, name: "n" })).toEqual({ type: "lookup", id: 4, name: "n" });
});

test("the name of a method is told once, whatever it is", () => {
  const { cross, told } = ends();
  const names = ["add", "übertrag", "", "\ufeffa", "__proto__", "constructor"];
  for (const method of [...names, ...names]) {
    expect(cross({ type: "tell", to: 1, method, args: [] })).toMatchObject({ method });
  }
  expect(told.length).toBe(names.length);
});

test("a method whose name is too long, no text, or one too many is called by its name", () => {
  const { cross, told } = ends();
  for (const method of ["x".repeat(NAME_BYTES + 1), "é".repeat(NAME_BYTES)]) {
    expect(cross({ type: "ask", id: 1, to: 1, method, args: [2] })).toMatchObject({ method, args: [2] });
  }
  cross({ type: "tell", to: 1, method: "\ud800", args: [] });
  expect(told).toEqual([]);
  for (let i = 0; i < MOST_NAMES + 5; i++) {
    expect(cross({ type: "tell", to: 1, method: `m${i}`, args: [] })).toMatchObject({ method: `m${i}` });
  }
  expect(told.length).toBe(MOST_NAMES);
});

test("a body is never longer than a header may be", () => {
  const { here } = ends({ ...DEFAULT_LIMITS, headerBytes: 100 });
  for (const bytes of [40, 70, 75, 80, 85, 90, 100]) {
    for (const value of [new Uint8Array(bytes), "x".repeat(bytes), ["x".repeat(bytes), 1]]) {
      const args = Array.isArray(value) ? value : [value];
      for (const envelope of [
        { type: "tell", to: 1, method: "m", args },
        { type: "ask", id: 1, to: 1, method: "m", args },
        { type: "reply", id: 1, value },
      ] as Envelope[]) {
        let length = 0;
        const refused = code(() => {
          length = here.encode(envelope).header.byteLength;
        });
        expect(length).toBeLessThanOrEqual(100);
        if (length === 0) expect(refused).toBe("LIMIT_EXCEEDED");
      }
    }
  }
});

test("more names than are allowed, and one that is no text, are refused", () => {
  const { there } = ends();
  expect(code(() => there.named(Uint8Array.of(0xff)))).toBe("MALFORMED_HEADER");
  for (let i = 0; i < MOST_NAMES; i++) there.named(Uint8Array.of(0x61));
  expect(code(() => there.named(Uint8Array.of(0x61)))).toBe("LIMIT_EXCEEDED");
});

test("what does not fit is refused, by name", () => {
  const { here, there } = ends();
  const ask = () => here.encode({ type: "ask", id: 3, to: 1, method: "m", args: [] }).header.slice();
  const changed = (change: (view: DataView) => void) => {
    const body = ask();
    change(new DataView(body.buffer));
    return code(() => there.decode(body));
  };
  expect(code(() => there.decode(ask()))).toBe("nothing was thrown");
  const hostile: [string, (view: DataView) => void][] = [
    ["an unknown form", (view) => view.setUint8(1, 4)],
    ["a reply's form of a list", (view) => view.setUint16(0, 0x0303)],
    ["a method without a name", (view) => view.setUint16(2, 1, true)],
    ["an actor beyond all safe integers", (view) => view.setUint32(8, 2 ** 21, true)],
    ["an id beyond all safe integers", (view) => view.setUint32(16, 2 ** 32 - 1, true)],
    ["a value that does not come", (view) => view.setUint8(1, 1)],
    ["arguments that do not come", (view) => view.setUint8(1, 3)],
    ["another kind", (view) => view.setUint8(0, 4)],
  ];
  for (const [what, change] of hostile) expect([what, changed(change)]).toEqual([what, "MALFORMED_HEADER"]);
  for (let length = 0; length < 20; length++) {
    expect(code(() => there.decode(ask().slice(0, length)))).toBe("MALFORMED_HEADER");
    // What comes behind it in the piece is not its own.
    expect(code(() => there.decode(ask(), [], 0, length))).toBe("MALFORMED_HEADER");
  }
  const list = here.encode({ type: "tell", to: 1, method: "m", args: [1, 2] }).header.slice(0, 13);
  list[12] = 0x80; // a map
  expect(code(() => there.decode(list))).toBe("MALFORMED_HEADER");
});

test("any bytes are a message or are refused, by name", () => {
  const { here, there } = ends();
  const random = seededRandom(9);
  const tensor = Tensor.zeros("u8", [2]);
  const honest = [
    here.encode({ type: "ask", id: 3, to: 1, method: "m", args: [tensor, { a: 1 }] }).header.slice(),
    here.encode({ type: "tell", to: 1, method: "m", args: ["text"] }).header.slice(),
    here.encode({ type: "reply", id: 3, value: [1] }).header.slice(),
  ];
  for (let i = 0; i < 3000; i++) {
    const bytes = i % 4 === 0 ? random.bytes(1 + random.integer(40)) : honest[i % 3]!.slice();
    bytes[random.integer(bytes.length)] = random.integer(256);
    try {
      there.decode(bytes, [tensor.bytes]);
    } catch (error) {
      expect((error as ProtocolError).code).toBe("MALFORMED_HEADER");
    }
  }
});
