/** What a cell is given: the node it lives on, and what it is to run. */

import type { DownReason } from "../protocols/messages.ts";
import type { ActorClass, ActorContext } from "./actor.ts";
import type { Cell } from "./cell.ts";
import type { Clock } from "./clock.ts";
import type { DeadLetters } from "./deadletters.ts";
import type { Dispatcher } from "./dispatcher.ts";
import type { Log } from "./log.ts";
import type { ClassTable } from "./methods.ts";
import type { ActorRef } from "./ref.ts";

/** What a cell needs of its node. */
export interface CellHost {
  readonly clock: Clock;
  readonly dispatcher: Dispatcher;
  readonly deadLetters: DeadLetters;
  readonly log: Log;
  createRef(cell: Cell): ActorRef;
  createContext(cell: Cell): ActorContext;
  /** The cell is dead. */
  release(cell: Cell): void;
}

export interface CellOptions {
  readonly id: number;
  readonly actor: ActorClass;
  readonly args: readonly unknown[];
  readonly table: ClassTable;
  readonly name: string | undefined;
  readonly parent: Cell | undefined;
  /** Told when a life of the cell has ended other than by its own `stop`; the cell then waits to be restarted. */
  readonly onExit?: ((reason: DownReason) => void) | undefined;
}
