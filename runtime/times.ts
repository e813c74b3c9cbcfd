/**
 * All times in which a cluster tells the silent from the slow, from one number: the patience, for which a device may be
 * silent and is still taken to live. Who runs devices that pause for longer than others raises it, and everything that
 * waits for them waits longer with it.
 *
 * What the patience promises: a device whose link stands is not given up before it has been silent for that long, and is
 * given up at most a quarter later. A link that closes needs no patience.
 *
 * Some things take their time however patient one is: people start a coordinator again, and a node that starts has not been
 * heard of yet, so nobody can tell how regular it is. Those have a least time.
 *
 * Not derived, because nobody's silence is measured by them: how long an actor may take to stop, how long a tombstone is
 * kept, and how long a transport tries to open a connection, which goes by what its network repeats.
 */

export interface Times {
  /** Silence after which a peer is given up, unless it has been irregular; see detector.ts. */
  readonly patienceMs: number;
  /** Between two looks at a link, and two pings of a peer that says nothing. */
  readonly intervalMs: number;
  /** Silence after which a peer is given up, however irregular it has been. */
  readonly latestMs: number;
  /** For a handshake, and to agree on a link. */
  readonly connectMs: number;
  /** For peers to say whether they know a way to a node. */
  readonly routeMs: number;
  /** Before the first attempt to get a lost connection back; twice as long before each further one. */
  readonly firstRetryMs: number;
  /** The longest before one of these attempts. */
  readonly lastRetryMs: number;
  /** How long the loss of a device may come behind a failure and still be its reason, where links close. */
  readonly explainMs: number;
  /** Before a run whose devices have lost each other is set up for the second time; longer each further time. */
  readonly cutMs: number;
  /** Without progress, after which a device that is not silent is taken to be stuck; see actors/recovery/lease.ts. */
  readonly leaseMs: number;
  /** The same, where it does what it has not done before. */
  readonly firstLeaseMs: number;
  /** How long a device keeps what it has of a run whose coordinator is lost. */
  readonly graceMs: number;
}

/**
 * Default: a process at the edge that compiles, swaps or collects garbage is silent for seconds and lives. A dead process
 * closes its sockets at once; this is for machines that freeze or lose their network.
 */
export const DEFAULT_PATIENCE_MS = 10_000;

/** A silence is measured to a tenth of the patience, and an answer that is lost nine times is no network's fault. */
const INTERVALS = 10;
/** Who is irregular gets a quarter more: the promise bounds it, and recovery waits for it. */
const LATEST = 5 / 4;
/** Handshakes are kernels' and certificates' work too: a busy single-board computer takes seconds for its first one. */
const LEAST_CONNECT_MS = 10_000;
/** As a part of what connecting may take: nothing is computed for it, it is a question to peers that are known. */
const ROUTE_SHARE = 1 / 2;
/** A process that is started again answers after a fortieth of the default patience. */
const FIRST_RETRIES = 40;
/** A device that was switched on is found within half a minute of the default. */
const LAST_RETRY = 3;
/** A connection that breaks is noticed at both ends within milliseconds. */
const EXPLAINED = 100;
const LEAST_EXPLAIN_MS = 100;
/** The first time at once, then after as long as it takes to see a link broken again. */
const CUTS = 10;
/** A machine that swaps is silent itself by then; who is not, and has nothing done for so long, will not do it. */
const LEASE = 3;
/** Kernels are compiled, and memory is touched for the first time; but nobody knows how long that takes. */
const FIRST_LEASES = 6;
const LEAST_FIRST_LEASE_MS = 60_000;
/** For another coordinator to be elected, or started by whatever watches it; people take a minute. */
const GRACE = 6;
const LEAST_GRACE_MS = 60_000;

/** What follows from a patience, in milliseconds. */
export function timesOf(patienceMs: number): Times {
  const connectMs = Math.max(LEAST_CONNECT_MS, patienceMs);
  return {
    patienceMs,
    intervalMs: patienceMs / INTERVALS,
    latestMs: patienceMs * LATEST,
    connectMs,
    routeMs: connectMs * ROUTE_SHARE,
    firstRetryMs: patienceMs / FIRST_RETRIES,
    lastRetryMs: patienceMs * LAST_RETRY,
    explainMs: Math.max(LEAST_EXPLAIN_MS, patienceMs / EXPLAINED),
    cutMs: patienceMs / CUTS,
    leaseMs: patienceMs * LEASE,
    firstLeaseMs: Math.max(LEAST_FIRST_LEASE_MS, patienceMs * LEASE * FIRST_LEASES),
    graceMs: Math.max(LEAST_GRACE_MS, patienceMs * GRACE),
  };
}
