/**
 * Who leads a run whose journal is on a NATS server (`--journal nats://…`): the first who comes, and each further one with
 * the same command stands by until the one before is gone, and then goes on with the run as a coordinator does that was
 * killed and started again.
 */

import { openStore } from "../actors/checkpoint/store.ts";
import { hasCheckpoints } from "../actors/checkpoint.ts";
import { CheckpointError } from "../actors/checkpoint-state.ts";
import { historyOf, type RunHistory } from "../actors/journal/history.ts";
import type { Journal } from "../actors/journal/journal.ts";
import { Deposed, LeaderLease } from "../actors/journal/leader-lease.ts";
import { LedJournal } from "../actors/journal/led.ts";
import { NatsJournal } from "../actors/journal/nats.ts";
import { isNatsPlace } from "../actors/journal/nats-place.ts";
import type { Clock, Random } from "../runtime/index.ts";
import type { Files } from "../runtime/platform/files.ts";
import { lock } from "../runtime/platform/lock.ts";
import { machine } from "../runtime/platform/machine.ts";
import { natsPlaceOf } from "./checkpoint-options.ts";
import { UsageError } from "./command.ts";
import type { RunEvent } from "./events.ts";
import { type Abandoned, otherOptions, recordedOptions, uniqueName } from "./journal.ts";
import { list, Options } from "./options.ts";
import type { TrainSettings } from "./train-options.ts";

/** What is each machine's own, whoever leads. */
const OF_THE_MACHINE: readonly string[] = ["identity", "listen"];

export interface Leadership {
  /** A run to go on with; null where one begins. */
  readonly abandoned: Abandoned | null;
  /** Of the run, and what they come to. */
  readonly options: Options;
  readonly settings: TrainSettings;
  /** Closing it gives the leadership back. */
  readonly journal: Journal;
  readonly epoch: number;
  /** What is told of it when the run is. */
  readonly event: RunEvent & { readonly event: "leader" };
  /** Rejects with Deposed when another one leads. */
  readonly deposed: Promise<never>;
  /** @param hears from now on that the run waits for the server, and why. */
  readonly onAway: (hears: (why: string) => void) => void;
}

/** What there is to stand by with. */
export interface StandbyWorld {
  readonly files: Files;
  readonly clock: Clock;
  readonly random: Random;
  /** Checks options, of a run that goes on or of one that begins. @throws what is wrong with them. */
  readonly check: (options: Options, goesOn: boolean) => Promise<TrainSettings>;
  /** Hears of damage, and of whom it stands by for. */
  readonly tell: (damage: string) => void;
  readonly show: (event: RunEvent, settings: TrainSettings) => void;
}

/**
 * Resolves when this is the one who leads the run, or with null when the run it stood by for is done. What is wrong is told
 * before it waits.
 * @throws UsageError for another run than the one that is there, NatsError.
 */
export async function takeLead(given: Options, world: StandbyWorld): Promise<Leadership | null> {
  const { files, clock, random, tell, show } = world;
  const address = placeOf(given);
  const id = uniqueName(random);
  const journal = await NatsJournal.open(address, id);
  let lease: LeaderLease | undefined;
  try {
    const { records, damage } = await journal.read();
    if (damage !== null) tell(damage);
    const before = await abandonedAt(address, historyOf(records), given, files);
    const look = () => world.check(before?.options ?? given, before !== null);
    const asked = await look().catch((error) => {
      // Whoever leads may have put a newer one in the place of the one that was just being read.
      if (before && error instanceof CheckpointError) return look();
      throw error;
    });
    if (await files.isFolder(asked.out)) await (await lock(`${asked.out}/.lock`))();

    const began = clock.now();
    let stoodBy = false;
    let away = tell;
    const { host, pid } = machine();
    lease = await LeaderLease.take(
      {
        register: await journal.connection.register(journal.place.name, "lease"),
        ...{ clock, id, ttlMs: asked.heartbeat.patienceMs, holder: `process ${pid} on ${host}` },
        tell: (why) => away(why),
      },
      (leader) => {
        stoodBy = true;
        show({ event: "standby", journal: address, leader }, asked);
      },
    );
    const { epoch } = lease;
    // From here on nothing that anybody else writes is accepted.
    await fenced(journal);
    const history = historyOf((await journal.read()).records);
    if (stoodBy && history?.done) {
      await lease.release();
      await journal.close();
      show({ event: "standby_ended", journal: address, steps: (history.step ?? -1) + 1 }, asked);
      return null;
    }
    const abandoned = await abandonedAt(address, history, given, files);
    const options = abandoned?.options ?? given;
    const settings = await world.check(options, abandoned !== null);
    const { checkpoint } = settings.run;
    if (isNatsPlace(checkpoint)) await openStore(files, checkpoint, epoch).prepare();
    return {
      ...{ abandoned, options, settings, epoch, deposed: lease.deposed },
      journal: new LedJournal(journal, lease),
      event: { event: "leader", journal: address, epoch, waited_ms: stoodBy ? clock.now() - began : 0 },
      onAway: (hears) => {
        away = hears;
      },
    };
  } catch (error) {
    await lease?.release();
    await journal.close();
    throw error;
  }
}

function placeOf(given: Options): string {
  const text = given.text("journal")!;
  if (!isNatsPlace(text)) {
    throw new UsageError(
      `--journal ${text}: expected nats://<host>[:<port>]/<name>; without it the journal is in the folder of the results`,
    );
  }
  const { address, step } = natsPlaceOf("journal", text);
  if (step !== null)
    throw new UsageError(`--journal ${text} is a checkpoint's address: the run's is ${address}`);
  return address;
}

/** Adds an entry behind the last one, whoever wrote that. */
async function fenced(journal: NatsJournal): Promise<void> {
  for (;;) {
    await journal.catchUp();
    try {
      return await journal.append([]);
    } catch (error) {
      // The one before had another word meanwhile.
      if (!(error instanceof Deposed)) throw error;
    }
  }
}

/** The run that is there, to be gone on with by its own options. */
async function abandonedAt(
  address: string,
  history: RunHistory | null,
  given: Options,
  files: Files,
): Promise<Abandoned | null> {
  if (!history || (history.planned === null && !history.done)) return null;
  if (history.done) throw new UsageError(`${address} holds a run that is done: choose another name`);
  const other = otherOptions(history, given).filter((name) => !OF_THE_MACHINE.includes(name));
  if (other.length > 0) {
    throw new UsageError(
      `${address} holds a run that is not done, with another ${list(other.map((name) => `--${name}`))}: ` +
        "choose another name, or stand by for that run with its own options",
    );
  }
  const all = new Map([...recordedOptions(history), ...given.given]);
  for (const name of OF_THE_MACHINE) if (!given.has(name)) all.delete(name);
  const checkpoints = given.text("checkpoint") ?? address;
  if (await hasCheckpoints(files, checkpoints)) all.set("resume", [checkpoints]);
  return { options: new Options(all), history };
}
