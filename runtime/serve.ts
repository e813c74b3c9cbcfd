/** What a node does for its peers: one function per message that asks for something. */

import { ProtocolError } from "../protocols/errors.ts";
import type { DownReason, Envelope } from "../protocols/messages.ts";
import type { Introduction } from "./discovery/introductions.ts";
import { asError, downError } from "./errors.ts";
import type { HostedSpawn, Owner } from "./hosting.ts";
import type { Served } from "./narrow.ts";
import type { Peer } from "./peer.ts";
import { ActorRef, type Ref } from "./ref.ts";

/** What the server needs of its node. */
export interface ServerHost {
  /** A tell that nobody handles; as `DeadLetters.post`. */
  deadLetter(to: string, method: string, error: Error): void;
  /** What was exported under this number. */
  served(actor: number): Served | undefined;
  spawn(wanted: HostedSpawn, asker: Peer): Promise<Ref<any>>;
  findLocal(name: string): Ref<any> | null;
  names(): string[];
  /** Who is connected here, without the asker. */
  introduce(asker: Peer, follow: boolean): readonly Introduction[];
  /** A peer tells of members of groups. */
  grouped(by: Peer, envelope: Extract<Envelope, { type: "groups" }>): void;
  /** A peer tells of another node. */
  introduced(by: Peer, node: unknown): void;
  /** For a transport, here or on another node. */
  signalled(by: Peer, signal: Extract<Envelope, { type: "signal" }>): void;
}

/** Characters of a message that is too long to be sent whole. */
const SHORT_MESSAGE = 1000;

const GONE: DownReason = { code: "noactor", message: "there is no such actor, or no longer" };

/** Handles one message of a peer. `taken` gives its credit back. */
export function serve(host: ServerHost, peer: Peer, envelope: Envelope, taken: () => void): void {
  switch (envelope.type) {
    case "tell": {
      const { to, method } = envelope;
      const actor = host.served(to);
      if (actor) {
        deliver(host, actor, envelope, taken);
        return;
      }
      taken();
      host.deadLetter(
        `#${to}`,
        method,
        downError(`#${to}, told by ${peer.info.name} (${peer.info.id}),`, GONE),
      );
      return;
    }
    case "ask": {
      const { id, to, method, args } = envelope;
      const stream = `reply ${to}`;
      const reply = {
        resolve: (value: unknown) => answer(peer, id, value, stream),
        reject: (error: Error) => refuse(peer, id, error),
      };
      const actor = host.served(to);
      if (actor) {
        actor.post(method, args, reply, taken);
        return;
      }
      taken();
      reply.reject(downError(`#${to}`, GONE));
      return;
    }
    case "spawn": {
      const { id, className, args, name, owner } = envelope;
      const wanted = { className, args, name: name ?? undefined, owner: (owner ?? undefined) as Owner };
      settle(peer, id, host.spawn(wanted, peer));
      return;
    }
    case "lookup":
      answer(peer, envelope.id, host.findLocal(envelope.name), "");
      return;
    case "names":
      answer(peer, envelope.id, host.names(), "");
      return;
    case "stop":
      if (envelope.drain) taken();
      settle(
        peer,
        envelope.id,
        host.served(envelope.to)?.end(envelope.kill, envelope.drain) ?? Promise.resolve(),
      );
      return;
    case "monitor":
    case "link": {
      const { id, to } = envelope;
      // The first would never be cancelled again.
      if (peer.watched.has(id)) {
        throw new ProtocolError("MALFORMED_HEADER", `${peer.info.name} has two monitors of the number ${id}`);
      }
      const tell = (reason: DownReason) => {
        peer.watched.delete(id);
        if (!peer.isLost) sendDown(peer, id, reason);
      };
      const actor = host.served(to);
      if (!actor) tell(GONE);
      else if (envelope.type === "monitor") peer.watched.set(id, actor.watch(tell));
      else peer.watched.set(id, actor.link(sendersOwn(peer, envelope.from), tell));
      return;
    }
    case "unlink":
      host.served(envelope.to)?.unlink(sendersOwn(peer, envelope.from));
      return;
    case "groups":
      host.grouped(peer, envelope);
      return;
    case "demonitor":
      peer.watched.get(envelope.id)?.();
      peer.watched.delete(envelope.id);
      return;
    case "down":
      peer.down(envelope.id, envelope.reason);
      return;
    case "discover":
      answer(peer, envelope.id, host.introduce(peer, envelope.follow), "");
      return;
    case "introduce":
      host.introduced(peer, envelope.node);
      return;
    case "signal":
      host.signalled(peer, envelope);
      return;
    case "offer":
    case "adopt":
      throw new ProtocolError("UNEXPECTED_FRAME", `a message "${envelope.type}" on a link that is in use`);
    case "reply":
    case "fail":
      peer.answered(envelope);
      return;
  }
}

/** @throws ProtocolError MALFORMED_HEADER: nobody links somebody else's actors. */
function sendersOwn(peer: Peer, from: unknown): ActorRef {
  if (from instanceof ActorRef && from.address.node === peer.info.id) return from;
  throw new ProtocolError("MALFORMED_HEADER", `a link of ${peer.info.name} is not with an actor of its own`);
}

function deliver(
  host: ServerHost,
  actor: Served,
  tell: Extract<Envelope, { type: "tell" }>,
  taken: () => void,
): void {
  try {
    actor.post(tell.method, tell.args, null, taken);
  } catch (error) {
    host.deadLetter(actor.label, tell.method, asError(error));
  }
}

function settle(peer: Peer, id: number, result: Promise<unknown>): void {
  result.then(
    (value) => answer(peer, id, value, ""),
    (error) => refuse(peer, id, asError(error)),
  );
}

/** A result that has no form on the wire is the asker's error. */
function answer(peer: Peer, id: number, value: unknown, stream: string): void {
  if (peer.isLost) return;
  try {
    peer.send({ type: "reply", id, value }, stream);
  } catch (error) {
    refuse(peer, id, asError(error));
  }
}

function refuse(peer: Peer, id: number, error: Error): void {
  if (peer.isLost) return;
  try {
    peer.send({ type: "fail", id, error }, "");
  } catch {
    // Too long for a header; its name and the beginning of its message are not.
    const short = new Error(`${error.name}: ${error.message.slice(0, SHORT_MESSAGE)}`);
    peer.send({ type: "fail", id, error: short }, "");
  }
}

/** The fields of a reason and nothing an actor may have added to it; an error that is too long is left out. */
function sendDown(peer: Peer, id: number, { code, message, error, silentMs, node }: DownReason): void {
  const where = {
    ...(silentMs === undefined ? {} : { silentMs }),
    ...(node === undefined ? {} : { node }),
  };
  try {
    const reason: DownReason = { code, message, ...(error ? { error } : {}), ...where };
    peer.send({ type: "down", id, reason }, "");
  } catch {
    const reason: DownReason = { code, message: message.slice(0, SHORT_MESSAGE), ...where };
    peer.send({ type: "down", id, reason }, "");
  }
}
