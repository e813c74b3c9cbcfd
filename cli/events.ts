/**
 * What `troupe train --json` says, one object per line; the text of a terminal is drawn from the same events. A
 * failure is one more, `{"event":"error","message"}`, said by `main.ts` for every command.
 */

import type { TrainEvent } from "../actors/train.ts";

export type RunEvent =
  | TrainEvent
  | DeviceJoined
  | LeaderEvent
  | { event: "device_left"; name: string; reason: string }
  /** A signal has come: the run ends behind the step under way, with a checkpoint, or at once if another one comes. */
  | { event: "ending"; signal: string }
  /** The plan from here on is not of the strategy that `--strategy` asked for, and why, in words. */
  | { event: "strategy_replaced"; asked: string; strategy: string; why: string }
  /** A fault is about to come, or has come, in words that `--chaos` takes. */
  | { event: "fault"; fault: string }
  /** One that was asked for, or told of, has not come in all of the run, and why not. */
  | { event: "fault_missed"; fault: string; why: string }
  /** Nodes may come to this address, and how what is said there is protected, in words. */
  | { event: "listening"; address: string; protection: string };

/** Who leads a run whose journal is on a server. */
export type LeaderEvent =
  /** Somebody else leads it: this one waits until they are gone. */
  | { event: "standby"; journal: string; leader: string }
  /** It is led from here, after so long a wait; the epoch is higher than that of whoever led it before. */
  | { event: "leader"; journal: string; epoch: number; waited_ms: number }
  /** The run is done, after so many steps, and nobody need stand by for it. */
  | { event: "standby_ended"; journal: string; steps: number };

export interface DeviceJoined {
  readonly event: "device_joined";
  readonly name: string;
  /** Where it was connected to first. */
  readonly address: string;
  /** Of the connection, which may have found a nearer way: `tcp`, `shm`. */
  readonly transport: string;
  /** Whether what is sent goes straight to it. */
  readonly route: "direct" | "relayed";
  /** Of a process started here. */
  readonly pid?: number;
  /** How the connection to a node that was joined is protected, in words. */
  readonly protection?: string;
}

/** Whoever shows the events of a run. */
export interface Reporter {
  show(event: RunEvent): void;
  /** A line that a device process wrote on its standard error. */
  said(device: string, line: string): void;
  /** Nothing more will come: takes away what was drawn to be drawn over. */
  close(): void;
}
