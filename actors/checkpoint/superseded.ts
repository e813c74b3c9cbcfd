/** What whoever leads a run no more is told by the place of its checkpoints. */

import { Deposed } from "../journal/leader-lease.ts";

export function supersededAt(place: string): Deposed {
  return new Deposed(`another coordinator writes the checkpoints at ${place}`);
}
