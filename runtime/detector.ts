/**
 * Is the other end of a link alive? Anything received says so; when nothing has come for an interval it is asked,
 * and when it has been silent for the patience it is given up. Pure: whoever owns the link says what time it is.
 *
 * A node whose own event loop stood still must not blame its peers for its own silence: a check that comes late
 * gives them the time it was late.
 */

export interface Heartbeat {
  /** Milliseconds between checks. */
  readonly intervalMs: number;
  /** Milliseconds of silence after which the peer is given up. */
  readonly patienceMs: number;
}

/** A dead process closes its sockets at once; this is for machines that freeze or lose their network. */
export const DEFAULT_HEARTBEAT: Heartbeat = { intervalMs: 1000, patienceMs: 10_000 };

export class Detector {
  private readonly heartbeat: Heartbeat;
  private heardAt: number;
  private checkedAt: number;

  constructor(heartbeat: Heartbeat, now: number) {
    this.heartbeat = heartbeat;
    this.heardAt = now;
    this.checkedAt = now;
  }

  /** Something was received. */
  heard(now: number): void {
    this.heardAt = now;
  }

  /** Called once per interval. `ask`: send a ping. `silent`: give the peer up. */
  check(now: number): "fine" | "ask" | "silent" {
    const late = now - this.checkedAt - this.heartbeat.intervalMs;
    this.checkedAt = now;
    if (late > 0) this.heardAt += late;
    const silence = now - this.heardAt;
    if (silence >= this.heartbeat.patienceMs) return "silent";
    return silence >= this.heartbeat.intervalMs ? "ask" : "fine";
  }
}
