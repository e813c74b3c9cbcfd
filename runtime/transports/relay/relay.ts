/**
 * The relay: pipes between two nodes that cannot connect to each other, through a third that both are connected to.
 * Every byte is a message on the links to that node. What is under way is bounded by a window for each direction of
 * each pipe, from end to end, so that one slow pair takes little of the memory in between and holds up nobody else.
 *
 * The two ends shake hands through it as on any pipe. The node in between holds the join token too and can read
 * what it forwards: a relay is for reach, not for secrets from members of the cluster.
 *
 * Addresses are `relay://<node id>`; a node listens on `relay://`.
 */

import { RuntimeError } from "../../errors.ts";
import type { Carrier } from "../carrier.ts";
import { MessagePipe } from "../message_pipe.ts";
import { nodeAddress, nodeOf } from "../node_address.ts";
import type { Listener, Pipe, PipeHandlers, Transport } from "../transport.ts";
import { parseRelay, RELAY, RELAY_WINDOW_BYTES, type RelayMessage, relay as say } from "./messages.ts";

/** Small enough to take turns with others on the links in between. */
const MESSAGE_BYTES = 64 * 1024;
const PATIENCE_MS = 10_000;
/** Credit goes back by the quarter of a window. */
const GRANT_BYTES = RELAY_WINDOW_BYTES / 4;

interface EndOptions {
  readonly carrier: Carrier;
  readonly via: string;
  readonly other: string;
  readonly id: string;
  /** Of the opening side: who is told once the other end has accepted. */
  readonly handlers?: (pipe: Pipe) => PipeHandlers;
  /** The end is over. */
  release(): void;
}

/** One end of a relayed pipe. */
class RelayEnd {
  readonly pipe: MessagePipe;
  /** Settles when the other end has answered; undefined on the accepting side. */
  readonly opened: PromiseWithResolvers<void> | undefined;
  readonly via: string;
  readonly other: string;
  /** Bytes sent in all, and those of them that were not given credit for. */
  private sent = 0;
  private underWay = 0;
  private received = 0;
  private ungranted = 0;
  /** The other end's close, which comes after so many bytes. */
  private closing: { readonly count: number; readonly why: string | null } | undefined;
  private readonly options: EndOptions;
  private over = false;

  constructor(options: EndOptions) {
    const { carrier, via, other, handlers } = options;
    this.options = options;
    this.via = via;
    this.other = other;
    this.opened = handlers ? Promise.withResolvers() : undefined;
    const end = this;
    this.pipe = new MessagePipe({
      carrier: {
        get bufferedAmount() {
          return end.underWay;
        },
        send: (bytes) => this.send(bytes),
      },
      clock: carrier.clock,
      peer: nodeAddress("relay", this.other),
      ...{ chunkBytes: MESSAGE_BYTES, messageBytes: MESSAGE_BYTES },
      ...{ capacityBytes: RELAY_WINDOW_BYTES - MESSAGE_BYTES, pollMs: undefined },
      shut: () => this.end(null, undefined),
      abort: () => undefined,
    });
  }

  tell(data: unknown): boolean {
    return this.options.carrier.send(this.via, this.other, RELAY, data);
  }

  receive(message: RelayMessage): void {
    switch (message.kind) {
      case "accept":
        this.accepted();
        break;
      case "data":
        this.take(message.bytes);
        break;
      case "credit":
        this.underWay = Math.max(0, this.underWay - message.count);
        this.pipe.look();
        break;
      case "close":
        this.closing = message;
        this.closeIfDue();
    }
  }

  /** Ends it: the other end is told unless it is lost, the owner if the end was not its own. */
  end(why: string | null, error: Error | undefined): void {
    if (this.over) return;
    this.over = true;
    this.options.release();
    this.tell(say.close(this.options.id, this.sent, why));
    this.opened?.reject(error ?? new RuntimeError("CONNECT_FAILED", "closed"));
    // Before it is open nobody but `opened` is to be told.
    if (this.pipe.handlers) this.pipe.ended(error);
  }

  /** Synchronously, for bytes may follow at once. */
  private accepted(): void {
    const { handlers } = this.options;
    if (!handlers || this.pipe.handlers) return;
    this.pipe.handlers = handlers(this.pipe);
    this.opened!.resolve();
  }

  private send(bytes: Uint8Array): void {
    this.sent += bytes.byteLength;
    this.underWay += bytes.byteLength;
    // The link borrows what it sends, and the pipe's writer wants its memory back at once.
    if (!this.tell(say.data(this.options.id, bytes.slice()))) {
      throw new RuntimeError("NODE_LOST", `${this.via}, which relays to ${this.other}, takes no more`);
    }
  }

  private take(bytes: Uint8Array): void {
    this.received += bytes.byteLength;
    this.ungranted += bytes.byteLength;
    if (this.ungranted >= GRANT_BYTES) {
      this.tell(say.credit(this.options.id, this.ungranted));
      this.ungranted = 0;
    }
    this.pipe.received(bytes);
    this.closeIfDue();
  }

  private closeIfDue(): void {
    if (!this.closing || this.received < this.closing.count) return;
    const { why } = this.closing;
    const error = why === null ? undefined : new RuntimeError("NODE_LOST", `${this.other} closed: ${why}`);
    this.end(null, this.opened && why !== null ? refused(this.other, why) : error);
  }
}

/** The transport; its node gives it the carrier. */
export function relay(): Transport {
  let carrier: Carrier | undefined;
  let accept: ((pipe: Pipe) => PipeHandlers) | undefined;
  const ends = new Map<string, RelayEnd>();

  const onSignal = (from: string, via: string, data: unknown) => {
    const message = parseRelay(data);
    if (!message) return;
    const key = `${via} ${from} ${message.pipe}`;
    const end = ends.get(key);
    if (end) end.receive(message);
    else if (message.kind === "open") answer(message.pipe, from, via, key);
  };

  const answer = (id: string, from: string, via: string, key: string) => {
    if (!accept) {
      carrier!.send(via, from, RELAY, say.close(id, 0, "it takes no relayed connections"));
      return;
    }
    const end = new RelayEnd({ carrier: carrier!, via, other: from, id, release: () => ends.delete(key) });
    ends.set(key, end);
    end.tell(say.accept(id));
    end.pipe.handlers = accept(end.pipe);
  };

  const onLost = (via: string, to: string | undefined) => {
    for (const end of [...ends.values()]) {
      if (end.via !== via || (to !== undefined && end.other !== to)) continue;
      const text = `the relayed connection to ${end.other} by way of ${via} is lost`;
      end.end(null, new RuntimeError("NODE_LOST", text, { node: end.other }));
    }
  };

  return {
    scheme: "relay",
    attach(given) {
      carrier = given;
      carrier.receive(RELAY, { onSignal, onLost });
    },
    async listen(address, accepting): Promise<Listener> {
      const own = nodeAddress("relay", nodeOf(address, "relay", "LISTEN_FAILED", carrier));
      if (accept) throw new RuntimeError("LISTEN_FAILED", `${own} is in use: the node listens already`);
      accept = accepting;
      return {
        address: own,
        async close() {
          accept = undefined;
        },
      };
    },
    async connect(address, handlers): Promise<Pipe> {
      const other = nodeOf(address, "relay", "CONNECT_FAILED", carrier);
      const { clock, random } = carrier!;
      const via = await carrier!.route(other).catch((error) => {
        throw new RuntimeError("CONNECT_FAILED", `cannot connect to ${address}: ${error.message}`);
      });
      if (via === other) throw refused(other, "it is connected already, and nobody is in between");
      const id = [...random.bytes(8)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
      const key = `${via} ${other} ${id}`;
      const release = () => ends.delete(key);
      const end = new RelayEnd({ carrier: carrier!, via, other, id, handlers, release });
      ends.set(key, end);
      const timer = clock.setTimer(() => {
        const why = `no answer within ${PATIENCE_MS} ms`;
        end.end(why, refused(other, why));
      }, PATIENCE_MS);
      try {
        end.tell(say.open(id));
        await end.opened!.promise;
        return end.pipe;
      } finally {
        clock.clearTimer(timer);
      }
    },
  };
}

function refused(node: string, why: string): RuntimeError {
  return new RuntimeError("CONNECT_FAILED", `cannot connect to relay://${node}: ${why}`, { node });
}
