/** Nodes reduced to their switchboards, for tests of transports that are built on signals. */

import type { Envelope } from "../../../protocols/messages.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { systemClock } from "../../../runtime/clock.ts";
import { systemRandom } from "../../../runtime/random.ts";
import { type SignalPeer, Switchboard, type SwitchboardHost } from "../../../runtime/switchboard.ts";
import type { Transport } from "../../../runtime/transports/transport.ts";

type Event = Parameters<Parameters<SwitchboardHost["subscribe"]>[0]>[0];

/** Microtasks that signals with tensors take: as on a link, all others overtake them. */
const TENSOR_TURNS = 4;

/** A node with links to others, whose messages arrive in a microtask. */
class HubNode {
  readonly switchboard: Switchboard;
  readonly peers = new Map<string, SignalPeer>();
  readonly subscribers = new Set<(event: Event) => void>();

  constructor(id: string, token: string | undefined) {
    this.switchboard = new Switchboard({
      ...{ id, token, clock: systemClock, random: systemRandom, routeMs: 5000 },
      peers: () => this.peers.values(),
      find: (other) => this.peers.get(other),
      subscribe: (subscriber) => {
        this.subscribers.add(subscriber);
        return () => this.subscribers.delete(subscriber);
      },
    });
  }
}

/** By default `a` and `b` are both connected to `c`, and not to each other. */
export class SignalHub {
  readonly nodes = new Map<string, HubNode>();
  /** Every signal that is sent, and the means to change or drop it. */
  tap: (signal: Extract<Envelope, { type: "signal" }>) => typeof signal | undefined = (signal) => signal;

  constructor(token: string | undefined = "secret", other: string | undefined = token) {
    for (const id of ["a", "b", "c"]) this.nodes.set(id, new HubNode(id, id === "b" ? other : token));
    this.link("a", "c");
    this.link("b", "c");
  }

  node(id: string): HubNode {
    return this.nodes.get(id)!;
  }

  link(a: string, b: string): void {
    this.half(a, b);
    this.half(b, a);
  }

  cut(a: string, b: string): void {
    for (const [from, to] of [
      [a, b],
      [b, a],
    ] as const) {
      this.node(from).peers.delete(to);
      for (const tell of this.node(from).subscribers) tell({ type: "left", peer: { id: to } });
    }
  }

  /** One transport whose listener is on `b` and which connects from `a`. */
  between(make: () => Transport): Transport {
    const near = make();
    const far = make();
    near.attach!(this.node("a").switchboard);
    far.attach!(this.node("b").switchboard);
    return {
      scheme: near.scheme,
      listen: (address, accept) => far.listen(address, accept),
      connect: (address, handlers) => near.connect(address, handlers),
    };
  }

  private half(from: string, to: string): void {
    const back = () => this.node(to).peers.get(from);
    this.node(from).peers.set(to, {
      info: { id: to },
      send: (envelope: Envelope) => {
        const signal = envelope.type === "signal" ? this.tap(envelope) : undefined;
        const slow = Array.isArray(signal?.data) && signal.data.some((part) => part instanceof Tensor);
        const deliver = (turns: number) => {
          const peer = back();
          if (turns > 0) queueMicrotask(() => deliver(turns - 1));
          else if (signal && peer) this.node(to).switchboard.handle(peer, signal);
        };
        queueMicrotask(() => deliver(slow ? TENSOR_TURNS : 0));
      },
    });
  }
}
