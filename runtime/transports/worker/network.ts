/**
 * Which threads there are, as one of them sees it, and the transport between them. A connection is a MessageChannel
 * of its own: one end stays, the other is handed to the thread where the address is listened on, through the thread
 * that started it (host.ts) when that is not this one. From then on the two talk directly.
 *
 * A thread cannot vanish in silence: who started it is told by the platform when it ends or fails, and tells every
 * thread that has a pipe to it. In turn silence means nothing: a thread that computes for a minute answers nothing
 * for a minute and lives. So these pipes say of themselves `reportsDeath`, and links over them watch for no
 * heartbeat. Whether a thread makes progress is for those to ask who gave it work.
 */

import { type Clock, systemClock } from "../../clock.ts";
import { asError, RuntimeError } from "../../errors.ts";
import type { Listener, Pipe, PipeHandlers, Transport } from "../transport.ts";
import { PortPipe } from "./pipe.ts";

/** Takes the far end of a new connection; rejects when nobody listens. `from` is who connects, by address. */
export type Door = (address: string, port: MessagePort, from: string) => void | Promise<void>;

const PATIENCE_MS = 10_000;

/** One per thread, shared by its node's transport and `startWorkerNode`. */
export class WorkerNetwork {
  /** This thread, as others know it. */
  readonly self: string;
  /** Where to ask for addresses unknown here: the thread that started this one. */
  private readonly parent: Door | undefined;
  private readonly doors = new Map<string, Door>();
  private readonly pipes = new Map<string, Set<PortPipe>>();
  private nextPlace = 1;

  /** In the main thread without arguments; in a worker, `workerNode` makes one. */
  constructor(self = "worker://main", parent?: Door) {
    this.self = self;
    this.parent = parent;
  }

  /** Takes an address, or a free one that begins with it when it ends in `-` or is `worker://`. */
  take(address: string, door: Door): string {
    const open = /(\/\/|-)$/.test(address);
    const taken = open ? `${address}${this.nextPlace++}` : address;
    if (this.doors.has(taken)) {
      throw new RuntimeError("LISTEN_FAILED", `cannot listen on ${taken}: it is in use`);
    }
    this.doors.set(taken, door);
    return taken;
  }

  /** Nobody is behind the address any more. */
  free(address: string): void {
    this.doors.delete(address);
  }

  /** Hands the port to whoever listens on the address. @throws Error when nobody does. */
  readonly open: Door = (address, port, from) => {
    if (!this.doors.has(address) && this.parent) return this.parent(address, port, from);
    return this.enter(address, port, from);
  };

  /** The same, for a port that was sent here: it goes no further. */
  readonly enter: Door = (address, port, from) => {
    const door = this.doors.get(address);
    if (!door) throw new Error("nobody listens there");
    return door(address, port, from);
  };

  /** A pipe over this port to the thread with this address. */
  pipe(port: MessagePort, peer: string, clock: Clock, handlers: (pipe: Pipe) => PipeHandlers): Pipe {
    let pipes = this.pipes.get(peer);
    if (!pipes) {
      pipes = new Set();
      this.pipes.set(peer, pipes);
    }
    const pipe = new PortPipe(port, peer, clock, () => {
      pipes.delete(pipe);
      if (pipes.size === 0 && this.pipes.get(peer) === pipes) this.pipes.delete(peer);
    });
    pipes.add(pipe);
    pipe.handlers = handlers(pipe);
    pipe.start();
    return pipe;
  }

  /** The thread with this address has ended: so have the pipes to it. */
  ended(address: string, error?: Error): void {
    this.free(address);
    for (const pipe of [...(this.pipes.get(address) ?? [])]) pipe.ended(error);
  }
}

/**
 * Pipes between the threads of one process. Addresses are `worker://<name>`: that of a thread is given by
 * `startWorkerNode`; `worker://` asks for any free one.
 */
export function worker(network: WorkerNetwork, clock: Clock = systemClock): Transport {
  return {
    scheme: "worker",
    async listen(address, accept): Promise<Listener> {
      if (!address.startsWith("worker://")) throw malformed("LISTEN_FAILED", address);
      const taken = network.take(address, (_, port, from) => {
        network.pipe(port, from, clock, accept);
      });
      return {
        address: taken,
        async close() {
          network.free(taken);
        },
      };
    },
    async connect(address, handlers): Promise<Pipe> {
      if (!address.startsWith("worker://")) throw malformed("CONNECT_FAILED", address);
      const { port1, port2 } = new MessageChannel();
      const late = Promise.withResolvers<never>();
      const timer = clock.setTimer(
        () => late.reject(new Error(`no answer within ${PATIENCE_MS} ms`)),
        PATIENCE_MS,
      );
      try {
        await Promise.race([network.open(address, port2, network.self), late.promise]);
        return network.pipe(port1, address, clock, handlers);
      } catch (error) {
        port1.close();
        const { message } = asError(error);
        throw new RuntimeError("CONNECT_FAILED", `cannot connect to ${address}: ${message}`, {
          cause: error,
        });
      } finally {
        clock.clearTimer(timer);
      }
    },
  };
}

function malformed(code: "LISTEN_FAILED" | "CONNECT_FAILED", address: string): RuntimeError {
  return new RuntimeError(code, `"${address}" is not the address of a thread; expected worker://name`);
}
