/**
 * Where a run is kept that several coordinators may lead, one after the other: a name on a NATS server, as an address. Its
 * journal is the log `TROUPE_<name>`, its lease and the list of its checkpoints are values of the bucket `<name>`, and the
 * files of those are objects of the bucket of that name.
 */

export interface NatsPlace {
  /** For people, and without what is behind the name. */
  readonly address: string;
  /** `nats://host:port`. */
  readonly server: string;
  readonly name: string;
  /** Of one checkpoint, where the address is of that. */
  readonly step: number | null;
}

export class PlaceError extends Error {
  readonly code = "PLACE";
  override readonly name = "PlaceError";
}

export function isNatsPlace(place: string): boolean {
  return place.startsWith("nats://");
}

const PORT = "4222";

/** @throws PlaceError for an address that names no place. */
export function natsPlace(address: string): NatsPlace {
  const [, credentials, host = "", port = PORT, name = "", step] =
    /^nats:\/\/([^/@]*@)?([\w.-]+|\[[\da-f:]+\])(?::(\d+))?\/([\w-]+)(?:\/step-(\d+))?\/*$/i.exec(address) ??
    [];
  if (name === "" || Number(port) > 65_535) {
    throw new PlaceError(
      `${withoutCredentials(address)} names no place for a run: nats://<host>[:<port>]/<name> is expected, of letters, digits, - and _`,
    );
  }
  if (credentials) {
    throw new PlaceError(
      `${withoutCredentials(address)}: an address is shown to everyone, give credentials as NATS_USER and NATS_PASSWORD`,
    );
  }
  const server = `nats://${host}:${port}`;
  return { address: `${server}/${name}`, server, name, step: step === undefined ? null : Number(step) };
}

const withoutCredentials = (address: string) => address.replace(/\/\/[^/]*@/, "//");
