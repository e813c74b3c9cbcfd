import { expect, test } from "bun:test";
import { type Envelope, fromWire, toWire } from "../../protocols/messages.ts";

const envelopes: Envelope[] = [
  { type: "tell", to: 1, method: "m", args: [1] },
  { type: "ask", id: 2, to: 1, method: "m", args: [] },
  { type: "reply", id: 2, value: { a: 1 } },
  { type: "reply", id: 2, value: undefined },
  { type: "fail", id: 2, error: new Error("e") },
  { type: "spawn", id: 3, className: "C", args: [], name: null, owner: null },
  { type: "lookup", id: 4, name: "n" },
  { type: "monitor", id: 5, to: 1 },
  { type: "demonitor", id: 5 },
  { type: "down", id: 5, reason: { code: "normal", message: "it stopped" } },
  { type: "stop", id: 6, to: 1, kill: false, drain: true },
  { type: "offer", number: 7, oldest: 6, generation: 0 },
  { type: "adopt", generation: 1 },
  { type: "discover", id: 8, follow: true },
  { type: "introduce", node: { id: "n" } },
];

test("every message survives its form on the wire", () => {
  for (const envelope of envelopes) expect(fromWire(toWire(envelope))).toEqual(envelope);
});

test("a message with a missing or wrong field is refused, naming it", () => {
  expect(() => fromWire([0, 1, 7, []])).toThrow('method of the message "tell" is not of type string');
  expect(() => fromWire([1, -1, 1, "m", []])).toThrow('id of the message "ask"');
  expect(() => fromWire([99])).toThrow("known type");
  expect(() => fromWire({ type: "tell" })).toThrow("known type");
});
