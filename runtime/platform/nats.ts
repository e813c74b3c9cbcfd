/**
 * A NATS server with JetStream (https://docs.nats.io/nats-concepts/jetstream), over the NATS project's own client: values
 * under compare-and-set, a log that one writer appends to, and objects. Nothing of it knows what is stored. The client is
 * loaded with the first connection; what fails is a `NatsError` of one line.
 *
 * Credentials come from the environment, under the names of the `nats` tool: NATS_USER with NATS_PASSWORD, NATS_USER alone
 * for a token, or NATS_CREDS, a file. A server that asks for TLS gets it.
 */

import type { JetStreamClient, JetStreamManager } from "@nats-io/jetstream";
import type { KV } from "@nats-io/kv";
import type { ObjectStore } from "@nats-io/obj";
import type { Authenticator, ConnectionOptions, NatsConnection } from "@nats-io/transport-node";
import { type Chunks, files } from "./files.ts";
import { environment } from "./process.ts";

export class NatsError extends Error {
  readonly code = "NATS";
  override readonly name = "NatsError";
  /** Whether the server could not be reached, or did not answer: whether anything has come of it is not known. */
  readonly isAway: boolean;

  constructor(message: string, isAway: boolean, options?: ErrorOptions) {
    super(message, options);
    this.isAway = isAway;
  }
}

/** An object whose bytes are not those that were put. */
export class DamagedObject extends Error {
  readonly code = "DAMAGED_OBJECT";
  override readonly name = "DamagedObject";
}

/** A value that changes only for whoever knows the revision that it has. */
export interface Register {
  /** What is there, and its revision: 0 where nothing has ever been written. */
  read(): Promise<{ readonly value: string; readonly revision: number }>;
  /** @returns its revision, higher than any before; null where the value is not of this revision any more. */
  write(value: string, revision: number): Promise<number | null>;
}

/** Entries in the order in which they were added, each with a number that is higher than those before. */
export interface Log {
  /** Adds an entry behind number `last`, 0 for the first. @returns its number; null where another one is there already. */
  append(entry: string, last: number): Promise<number | null>;
  /** The last entry and its number; 0 before the first. */
  last(): Promise<{ readonly entry: string; readonly number: number }>;
  /** Entries behind number `after`, 0 for all, in order. */
  read(after: number): Promise<readonly { readonly entry: string; readonly number: number }[]>;
}

/** Objects by name, whole or not at all. */
export interface Objects {
  /** Null where there is none. @throws DamagedObject. */
  get(name: string): Promise<Uint8Array | null>;
  put(name: string, chunks: Chunks): Promise<void>;
  names(): Promise<string[]>;
  /** One that is not there is fine. */
  remove(name: string): Promise<void>;
  /** Removes what is left of objects whose putting was broken off; nobody puts any meanwhile. */
  sweep(): Promise<void>;
}

/**
 * A connection. It is made again by itself when it is lost; what is asked meanwhile fails after a while. Buckets and logs
 * that are not there are empty, and made with the first that is written.
 */
export interface Nats {
  /** Revisions are counted by bucket. */
  register(bucket: string, key: string): Promise<Register>;
  log(name: string): Promise<Log>;
  objects(bucket: string): Promise<Objects>;
  close(): Promise<void>;
}

/** After this long without an answer something has failed. */
const TIMEOUT_MS = 5000;
const RECONNECT_MS = 200;

/** @param server `nats://host:port`. @throws NatsError where nobody answers there, or not with JetStream; FileError. */
export async function connectNats(server: string): Promise<Nats> {
  const { connect, credsAuthenticator } = await import("@nats-io/transport-node");
  const { jetstream, jetstreamManager } = await import("@nats-io/jetstream");
  const { Kvm } = await import("@nats-io/kv");
  const { Objm } = await import("@nats-io/obj");
  const creds = environment("NATS_CREDS");
  const options: ConnectionOptions = {
    ...{ servers: server.replace(/^nats:\/\//, ""), name: "troupe", timeout: TIMEOUT_MS },
    ...{ maxReconnectAttempts: -1, reconnectTimeWait: RECONNECT_MS },
    ...(await credentials(creds, credsAuthenticator)),
  };
  const connection = await attempt(server, () => connect(options));
  let manager: JetStreamManager;
  try {
    manager = await attempt(server, () => jetstreamManager(connection, { timeout: TIMEOUT_MS }));
  } catch (error) {
    await connection.close();
    throw error;
  }
  const client = jetstream(connection, { timeout: TIMEOUT_MS });
  return {
    register: async (bucket, key) => {
      const buckets = new Kvm(client);
      const kv = await attempt(server, () => buckets.open(bucket));
      const make = once(() => buckets.create(bucket, { history: 1 }));
      return registerOf(server, kv, make, key);
    },
    log: async (name) => {
      const make = once(() => manager.streams.add({ name, subjects: [subjectOf(name)] }));
      return logOf(server, connection, client, manager, make, name);
    },
    objects: async (bucket) => {
      const store = await attempt(server, () => new Objm(client).create(bucket));
      return objectsOf(server, manager, bucket, store);
    },
    close: () => connection.close(),
  };
}

async function credentials(
  creds: string | undefined,
  authenticator: (creds: Uint8Array) => Authenticator,
): Promise<Partial<ConnectionOptions>> {
  if (creds) return { authenticator: authenticator(await files.read(creds)) };
  const [user, pass] = [environment("NATS_USER"), environment("NATS_PASSWORD")];
  if (!user) return {};
  return pass ? { user, pass } : { token: user };
}

function registerOf(server: string, kv: KV, make: Make, key: string): Register {
  return {
    read: () =>
      attempt(server, async () => {
        const entry = await ifThere(() => kv.get(key));
        return entry ? { value: entry.string(), revision: entry.revision } : { value: "", revision: 0 };
      }),
    write: (value, revision) =>
      attempt(server, async () => {
        await make();
        return ifFirst(() => kv.put(key, value, { previousSeq: revision, timeout: TIMEOUT_MS }));
      }),
  };
}

const subjectOf = (name: string) => `troupe.${name}`;

function logOf(
  server: string,
  connection: NatsConnection,
  client: JetStreamClient,
  manager: JetStreamManager,
  make: Make,
  name: string,
): Log {
  return {
    append: (entry, last) => {
      const most = connection.info?.max_payload ?? Number.POSITIVE_INFINITY;
      const bytes = new TextEncoder().encode(entry);
      if (bytes.byteLength > most) {
        throw new NatsError(
          `the NATS server at ${server} takes at most ${most} bytes at once, and ${bytes.byteLength} are to be written: raise its max_payload`,
          false,
        );
      }
      const expect = { lastSequence: last };
      const options = { expect, timeout: TIMEOUT_MS };
      return attempt(server, async () => {
        await make();
        return ifFirst(async () => (await client.publish(subjectOf(name), bytes, options)).seq);
      });
    },
    last: () =>
      attempt(server, async () => {
        const number = (await ifThere(() => manager.streams.info(name)))?.state.last_seq ?? 0;
        const message = number > 0 ? await manager.streams.getMessage(name, { seq: number }) : null;
        return { entry: message?.string() ?? "", number };
      }),
    read: (after) =>
      attempt(server, async () => {
        const entries: { entry: string; number: number }[] = [];
        const consumer = await ifThere(() => client.consumers.get(name, { opt_start_seq: after + 1 }));
        if (!consumer || (await consumer.info()).num_pending === 0) return entries;
        const messages = await consumer.consume();
        for await (const message of messages) {
          entries.push({ entry: message.string(), number: message.seq });
          if (message.info.pending === 0) break;
        }
        await messages.close();
        return entries;
      }),
  };
}

function objectsOf(server: string, manager: JetStreamManager, bucket: string, store: ObjectStore): Objects {
  return {
    get: (name) =>
      attempt(server, async () => {
        const info = await store.info(name);
        if (!info) return null;
        const damaged = (cause?: unknown) =>
          new DamagedObject(`${name} is not what was put there`, { cause });
        // The client waits for chunks that are gone.
        const chunks = `$O.${bucket}.C.${info.nuid}`;
        const { state } = await manager.streams.info(`OBJ_${bucket}`, { subjects_filter: chunks });
        if ((state.subjects?.[chunks] ?? 0) !== info.chunks) throw damaged();
        return store.getBlob(name).catch((cause: Error) => {
          throw /corrupt object/.test(cause.message) ? damaged(cause) : cause;
        });
      }),
    put: (name, chunks) => attempt(server, () => store.put({ name }, streamOf(chunks))).then(() => {}),
    names: () => attempt(server, async () => (await store.list()).map((each) => each.name)),
    remove: (name) =>
      attempt(server, async () => {
        if (await store.info(name)) await store.delete(name);
      }),
    sweep: () =>
      attempt(server, async () => {
        const stream = `OBJ_${bucket}`;
        const whole = new Set((await store.list()).map(({ nuid }) => `$O.${bucket}.C.${nuid}`));
        const { state } = await manager.streams.info(stream, { subjects_filter: `$O.${bucket}.C.>` });
        for (const chunks of Object.keys(state.subjects ?? {})) {
          if (!whole.has(chunks)) await manager.streams.purge(stream, { filter: chunks });
        }
      }),
  };
}

function streamOf(chunks: Chunks): ReadableStream<Uint8Array> {
  const iterator =
    Symbol.asyncIterator in chunks ? chunks[Symbol.asyncIterator]() : chunks[Symbol.iterator]();
  return new ReadableStream({
    pull: async (controller) => {
      const { done, value } = await iterator.next();
      if (done) controller.close();
      else controller.enqueue(value);
    },
  });
}

/** Makes something on the server, unless that has been done. */
type Make = () => Promise<unknown>;

function once(make: Make): Make {
  let made: Promise<unknown> | undefined;
  return () => {
    made ??= make().catch((error) => {
      made = undefined;
      throw error;
    });
    return made;
  };
}

/** What JetStream says of a stream that is not there. */
const NOT_THERE = 10059;

async function ifThere<T>(work: () => Promise<T>): Promise<T | null> {
  try {
    return await work();
  } catch (error) {
    if ((error as { code?: unknown }).code === NOT_THERE) return null;
    throw error;
  }
}

/** What JetStream says of a revision that is not the last any more. */
const NOT_FIRST: readonly unknown[] = [10071, 10164];

async function ifFirst<T>(work: () => Promise<T>): Promise<T | null> {
  try {
    return await work();
  } catch (error) {
    if (NOT_FIRST.includes((error as { code?: unknown }).code)) return null;
    throw error;
  }
}

async function attempt<T>(server: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (cause instanceof NatsError || cause instanceof DamagedObject) throw cause;
    throw told(server, cause as Error);
  }
}

function told(server: string, cause: Error): NatsError {
  const { name, message } = cause;
  const error = (words: string, isAway = false) => new NatsError(words, isAway, { cause });
  if (name === "JetStreamNotEnabled") {
    return error(`the NATS server at ${server} has no JetStream: start it as nats-server -js`);
  }
  if (name === "AuthorizationError") {
    return error(
      `the NATS server at ${server} does not let us in: set NATS_USER and NATS_PASSWORD, or NATS_CREDS`,
    );
  }
  if (AWAY.includes(name) || /ECONN|ENOTFOUND|EAI_AGAIN/.test(message)) {
    return error(`nobody answers at ${server}: start nats-server -js there`, true);
  }
  return error(`the NATS server at ${server} refuses: ${message}`);
}

/** Names of the client's errors that say no more than that there is no answer. */
const AWAY = ["ConnectionError", "TimeoutError", "NoRespondersError", "RequestError"];
