/**
 * Actors of other nodes, as targets of refs: every call becomes a message on the link to that node. If there is
 * no link yet, one is opened and what was sent meanwhile follows in order.
 */

import type { ActorAddress, DownReason } from "../protocols/messages.ts";
import type { Clock } from "./clock.ts";
import type { DeadLetters } from "./deadletters.ts";
import { asError, downError, RuntimeError } from "./errors.ts";
import { soon, soonGone } from "./monitor.ts";
import { nodeLost, type Peer } from "./peer.ts";
import type { ActorRef, RefTarget } from "./ref.ts";
import { within } from "./timeout.ts";

/** What remote targets need of their node. */
export interface RemoteHost {
  readonly clock: Clock;
  readonly deadLetters: DeadLetters;
  /** Calls back with the peer, at once if it is connected, or with the reason why it cannot be reached. */
  reach(address: ActorAddress, callback: (peer: Peer | Error) => void): void;
}

export class RemoteTarget implements RefTarget {
  private readonly host: RemoteHost;
  private readonly address: ActorAddress;
  /** Messages to one actor keep their order, those to different ones do not wait for each other. */
  private readonly stream: string;

  constructor(host: RemoteHost, address: ActorAddress) {
    this.host = host;
    this.address = address;
    this.stream = String(address.actor);
  }

  tell(method: string, args: unknown[]): void {
    let thrown: unknown;
    this.host.reach(this.address, (peer) => {
      const undeliverable = (error: Error) => this.host.deadLetters.post(this.label, method, error);
      if (peer instanceof Error) {
        // As for a full mailbox: the sender is told before anything is sent.
        if ((peer as RuntimeError).code === "MAILBOX_FULL") thrown = peer;
        return undeliverable(peer);
      }
      try {
        const message = peer.send({ type: "tell", to: this.address.actor, method, args }, this.stream);
        if (message) peer.onDropped(message, undeliverable);
      } catch (error) {
        thrown = error;
        undeliverable(asError(error));
      }
    });
    if (thrown) throw thrown;
  }

  ask(method: string, args: unknown[], timeoutMs: number | undefined): Promise<unknown> {
    return new Promise((resolve, reject) => {
      let over = false;
      let giveUp = () => {
        over = true;
      };
      const what = () => `${this.label} did not answer ${method}`;
      const reply = within(timeoutMs, this.host.clock, what, { resolve, reject }, () => giveUp());
      this.host.reach(this.address, (peer) => {
        if (over) return;
        if (peer instanceof Error) reply.reject(peer);
        else giveUp = peer.request({ type: "ask", to: this.address.actor, method, args }, this.stream, reply);
      });
    });
  }

  watch(callback: (reason: DownReason) => void): () => void {
    return this.monitor(callback, null);
  }

  link(from: ActorRef, callback: (reason: DownReason) => void): () => void {
    if (this.address.methods) {
      throw new RuntimeError("NARROWED", `${this.label} is narrowed, which does not allow to link to it`);
    }
    return this.monitor(callback, from);
  }

  unlink(from: ActorRef): void {
    this.host.reach(this.address, (peer) => {
      if (!(peer instanceof Error) && !peer.isLost)
        peer.send({ type: "unlink", to: this.address.actor, from }, "");
    });
  }

  /** @param linked who is linked to in return. */
  private monitor(callback: (reason: DownReason) => void, linked: ActorRef | null): () => void {
    let cancelled = false;
    let cancel = () => {
      cancelled = true;
    };
    this.host.reach(this.address, (peer) => {
      if (cancelled) return;
      if (peer instanceof Error) cancel = soon(callback, nodeLost(peer, this.address.node));
      else cancel = peer.monitor(this.address.actor, callback, linked);
    });
    return () => cancel();
  }

  end(kill: boolean, drain = false): Promise<void> {
    return new Promise((resolve, reject) => {
      this.host.reach(this.address, (peer) => {
        if (peer instanceof Error) return reject(peer);
        const reply = { resolve: () => resolve(), reject };
        peer.request({ type: "stop", to: this.address.actor, kill, drain }, "", reply);
      });
    });
  }

  get label(): string {
    return `${this.address.className}#${this.address.actor} on ${this.address.node}`;
  }
}

/** What a ref to an actor of an earlier incarnation of this node leads to. */
export class GoneTarget implements RefTarget {
  private readonly host: { readonly deadLetters: DeadLetters };
  readonly label: string;
  private readonly reason: DownReason;

  constructor(host: { readonly deadLetters: DeadLetters }, label: string, message: string) {
    this.host = host;
    this.label = label;
    this.reason = { code: "noactor", message };
  }

  tell(method: string): void {
    this.host.deadLetters.post(this.label, method, downError(this.label, this.reason));
  }

  ask(): Promise<unknown> {
    return Promise.reject(downError(this.label, this.reason));
  }

  watch(callback: (reason: DownReason) => void): () => void {
    return soonGone(callback, this.reason);
  }

  link(_from: ActorRef, callback: (reason: DownReason) => void): () => void {
    return this.watch(callback);
  }

  unlink(): void {}

  end(): Promise<void> {
    return Promise.resolve();
  }
}
