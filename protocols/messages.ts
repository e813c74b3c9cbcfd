/**
 * What nodes say to each other once a link is ready. On the wire a message is an array, its type's number first,
 * then its fields in the order of the table below; the table is the whole schema, and what does not fit it is
 * refused before anything acts on it.
 */

import { ProtocolError } from "./errors.ts";

/** Where an actor is. Plain data: it is what a ref becomes inside a message. */
export interface ActorAddress {
  /** The node it lives on, by id. */
  readonly node: string;
  /** The incarnation of that node in which the actor lives. */
  readonly incarnation: number;
  /** 53 random bits: who was not given an address cannot guess one. Never used twice in an incarnation. */
  readonly actor: number;
  /** For people, and for the methods a ref has where the class is known. */
  readonly className: string;
  /** Where the node can be connected to. */
  readonly addresses: readonly string[];
  /** All that a narrowed ref exposes; its node refuses the rest. */
  readonly methods?: readonly string[] | undefined;
}

/** Why an actor is gone. */
export interface DownReason {
  /** For programs. */
  readonly code:
    | "normal" // it stopped, by itself or because it was asked to
    | "killed" // it was ended without being asked
    | "error" // it crashed; `error` is the first real error
    | "noactor" // there was no such actor, or no longer
    | "nodelost"; // the link to its node is lost; nobody knows what became of it
  /** For people. */
  readonly message: string;
  /** The first real error, where there was one. */
  readonly error?: Error;
  /** Milliseconds since the last sign of life: of a node that was lost, or as the error says that an actor crashed with. */
  readonly silentMs?: number;
  /** The node that was lost, by id. */
  readonly node?: string;
}

/** What one node says to another, as it is read and before it is written. */
export type Envelope =
  /** Run a method, no answer. */
  | { type: "tell"; to: number; method: string; args: unknown[] }
  /** Run a method, answer with `reply` or `fail`. */
  | { type: "ask"; id: number; to: number; method: string; args: unknown[] }
  | { type: "reply"; id: number; value: unknown }
  | { type: "fail"; id: number; error: Error }
  /** Start an actor of a registered class; the reply is its ref. `owner`: what it must not outlive. */
  | { type: "spawn"; id: number; className: string; args: unknown[]; name: string | null; owner: unknown }
  /** Find an actor by its registered name; the reply is its ref, or null. */
  | { type: "lookup"; id: number; name: string }
  /** Which names are registered? The reply is an array of them. */
  | { type: "names"; id: number }
  /** Tell when this actor is gone, once. */
  | { type: "monitor"; id: number; to: number }
  | { type: "demonitor"; id: number }
  | { type: "down"; id: number; reason: DownReason }
  /** As `monitor`, and `from`, a ref of the sender's node, is to be watched in return. */
  | { type: "link"; id: number; to: number; from: unknown }
  /** Actors of the sender's node have joined groups or left them: group, ref, and why it left. */
  | { type: "groups"; joined: boolean; members: unknown[] }
  /** Watch `from` no longer. */
  | { type: "unlink"; to: number; from: unknown }
  /** Stop an actor; the reply comes when it has stopped. `kill`: without asking it; `drain`: after what it was sent. */
  | { type: "stop"; id: number; to: number; kill: boolean; drain: boolean }
  /** The first message on a link, from the node with the greater id: may this link be used? */
  | { type: "offer"; number: number; oldest: number; generation: number }
  /** The answer to an offer: it may, as this generation. */
  | { type: "adopt"; generation: number }
  /** Which nodes are you connected to? `follow`: and tell me of those that join later. */
  | { type: "discover"; id: number; follow: boolean }
  /** A node has joined; told to those who follow. */
  | { type: "introduce"; node: unknown }
  /** From one node to another, for a transport, forwarded by a node that is connected to both. */
  | { type: "signal"; to: string; from: string; about: string; data: unknown };

type FieldType = "number" | "string" | "string?" | "boolean" | "array" | "error" | "any" | "reason";

const SCHEMA: readonly (readonly [Envelope["type"], readonly (readonly [string, FieldType])[]])[] = [
  [
    "tell",
    [
      ["to", "number"],
      ["method", "string"],
      ["args", "array"],
    ],
  ],
  [
    "ask",
    [
      ["id", "number"],
      ["to", "number"],
      ["method", "string"],
      ["args", "array"],
    ],
  ],
  [
    "reply",
    [
      ["id", "number"],
      ["value", "any"],
    ],
  ],
  [
    "fail",
    [
      ["id", "number"],
      ["error", "error"],
    ],
  ],
  [
    "spawn",
    [
      ["id", "number"],
      ["className", "string"],
      ["args", "array"],
      ["name", "string?"],
      ["owner", "any"],
    ],
  ],
  [
    "lookup",
    [
      ["id", "number"],
      ["name", "string"],
    ],
  ],
  [
    "monitor",
    [
      ["id", "number"],
      ["to", "number"],
    ],
  ],
  ["demonitor", [["id", "number"]]],
  [
    "down",
    [
      ["id", "number"],
      ["reason", "reason"],
    ],
  ],
  [
    "stop",
    [
      ["id", "number"],
      ["to", "number"],
      ["kill", "boolean"],
      ["drain", "boolean"],
    ],
  ],
  [
    "offer",
    [
      ["number", "number"],
      ["oldest", "number"],
      ["generation", "number"],
    ],
  ],
  ["adopt", [["generation", "number"]]],
  [
    "discover",
    [
      ["id", "number"],
      ["follow", "boolean"],
    ],
  ],
  ["introduce", [["node", "any"]]],
  [
    "link",
    [
      ["id", "number"],
      ["to", "number"],
      ["from", "any"],
    ],
  ],
  [
    "unlink",
    [
      ["to", "number"],
      ["from", "any"],
    ],
  ],
  [
    "signal",
    [
      ["to", "string"],
      ["from", "string"],
      ["about", "string"],
      ["data", "any"],
    ],
  ],
  ["names", [["id", "number"]]],
  [
    "groups",
    [
      ["joined", "boolean"],
      ["members", "array"],
    ],
  ],
];

const NUMBER_OF = new Map(SCHEMA.map(([type], i) => [type, i]));

/** Whether it may be the number of something. */
export const isCount = (v: unknown): v is number =>
  typeof v === "number" && Number.isSafeInteger(v) && v >= 0;

const IS: Readonly<Record<FieldType, (value: unknown) => boolean>> = {
  number: isCount,
  string: (v) => typeof v === "string",
  "string?": (v) => v === null || typeof v === "string",
  boolean: (v) => typeof v === "boolean",
  array: (v) => Array.isArray(v),
  error: (v) => v instanceof Error,
  any: () => true,
  reason: (v) => typeof v === "object" && v !== null && typeof (v as DownReason).message === "string",
};

/** The array a message is on the wire. A field that is undefined is left off the end, so that it stays undefined. */
export function toWire(envelope: Envelope): unknown[] {
  const number = NUMBER_OF.get(envelope.type)!;
  const wire: unknown[] = [number];
  for (const [field] of SCHEMA[number]![1]) wire.push((envelope as Record<string, unknown>)[field]);
  if (wire[wire.length - 1] === undefined) wire.pop();
  return wire;
}

/** What a decoded message says. @throws ProtocolError MALFORMED_HEADER naming the message and the field that is wrong. */
export function fromWire(wire: unknown): Envelope {
  const entry = Array.isArray(wire) ? SCHEMA[wire[0] as number] : undefined;
  if (!entry) throw new ProtocolError("MALFORMED_HEADER", "a message is not of a known type");
  const [type, fields] = entry;
  const envelope: Record<string, unknown> = { type };
  for (let i = 0; i < fields.length; i++) {
    const [field, expected] = fields[i]!;
    const value = (wire as unknown[])[i + 1];
    if (!IS[expected](value)) {
      throw new ProtocolError(
        "MALFORMED_HEADER",
        `${field} of the message "${type}" is not of type ${expected}`,
      );
    }
    envelope[field] = value;
  }
  return envelope as unknown as Envelope;
}

/**
 * Under which number of a link's streams a message spends credit: one per receiving actor. 0 for messages that are
 * free; those that pay are the ones whose number only their sender decides.
 */
export function streamOf(envelope: Envelope): number {
  const { type } = envelope;
  // A drain comes after the messages that were sent before it, so it goes their way.
  const pays = type === "tell" || type === "ask" || (type === "stop" && envelope.drain);
  return pays ? 1 + (envelope.to % MOST_STREAMS) : 0;
}

/** A stream's number is a u32; actors that share one share their turns and their credit, and nothing breaks. */
const MOST_STREAMS = 2 ** 32 - 1;
