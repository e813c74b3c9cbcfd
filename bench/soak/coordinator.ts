/**
 * The coordinator of a soak, a process of its own: it leads one run after another on the devices that it is told of, takes
 * devices in while a run goes on, and says what happens, an event a line. Killed, it is started again with the same words and
 * goes on with the run that its journal has.
 *
 * It is told on standard input, a line each: `join <address>`, `run <name>`, and `arm <device> <faults as JSON>`. The data
 * source is in this process, and is lost with it.
 */

import { createInterface } from "node:readline";
import type { Device } from "../../actors/device.ts";
import { historyOf } from "../../actors/journal/history.ts";
import type { Journal, JournalRecord } from "../../actors/journal/journal.ts";
import { RunJournal } from "../../actors/journal/run-journal.ts";
import { SqliteJournal } from "../../actors/journal/sqlite.ts";
import { ProfileCache } from "../../actors/profile-cache.ts";
import type { Plan } from "../../actors/scheduler/plan.ts";
import { type TrainOptions, train } from "../../actors/train.ts";
import { lineLog } from "../../cli/log.ts";
import { DEVICE_NAME } from "../../cli/node.ts";
import { transportsOf } from "../../cli/transports.ts";
import { DEFAULT_ADAMW } from "../../nn/optim/adamw.ts";
import { heartbeatOf, NodeRuntime, type Ref, systemClock } from "../../runtime/index.ts";
import { files } from "../../runtime/platform/files.ts";
import { machineId } from "../../runtime/platform/machine.ts";

/** What it is started with, as JSON. */
export interface SoakSettings {
  /** Where runs, and profiles of devices, are kept. */
  readonly folder: string;
  readonly steps: number;
  readonly seed: number;
  readonly copies: number;
  readonly patienceMs: number;
  /** The least that a step takes: all wait at its commit, and no processor is busy meanwhile. */
  readonly pauseMs: number;
  readonly data: string;
}

interface Member {
  readonly name: string;
  readonly address: string;
  readonly ref: Ref<Device>;
}

/** A device may still be starting, or not know yet that its link is gone. */
const TRIES = 60;
const RETRY_MS = 500;

const MODEL = { kind: "gpt", layers: 4, width: 32, heads: 2, context: 32, vocabulary: 256 } as const;

const settings = JSON.parse(process.argv[2]!) as SoakSettings;
const node = new NodeRuntime({
  name: "coordinator",
  transports: transportsOf(
    { token: undefined, certificate: undefined, coordinator: false, insecure: false },
    "auto",
  ),
  machine: machineId(),
  heartbeat: heartbeatOf(settings.patienceMs),
  log: lineLog,
});
const members: Member[] = [];
/** Takes a device into the run that is under way. */
let takeIn: ((member: Member) => void) | undefined;

function say(event: Readonly<Record<string, unknown>>): void {
  process.stdout.write(`${JSON.stringify(event)}\n`);
}

async function join(address: string): Promise<void> {
  for (let tries = 0; ; tries++) {
    try {
      const peer = await node.connect(address);
      const ref = await node.lookup<Device>(peer.id, DEVICE_NAME);
      if (!ref) throw new Error(`${address} is a node without a device`);
      if (members.some((known) => known.ref.key === ref.key)) return;
      const member = { name: peer.name, address, ref };
      members.push(member);
      node.monitor(ref, ({ reason }) => {
        members.splice(members.indexOf(member), 1);
        say({ event: "device_left", name: member.name, reason: reason.message });
      });
      say({ event: "device_joined", name: peer.name, transport: peer.transport, addresses: peer.addresses });
      takeIn?.(member);
      return;
    } catch (error) {
      if (tries === TRIES) {
        say({ event: "join_failed", address, why: (error as Error).message });
        return;
      }
      await Bun.sleep(RETRY_MS);
    }
  }
}

function namesIn({ stages }: Plan): string[] {
  return [...new Set(stages.flatMap(({ members }) => members.map(({ deviceName }) => deviceName)))];
}

/** A journal on a slow disk. */
class Paced implements Journal {
  private readonly journal: Journal;

  constructor(journal: Journal) {
    this.journal = journal;
  }

  async append(records: readonly JournalRecord[], lasting?: boolean): Promise<void> {
    await this.journal.append(records, lasting);
    if (records.some(({ kind }) => kind === "step")) await Bun.sleep(settings.pauseMs);
  }

  read() {
    return this.journal.read();
  }

  close(): Promise<void> {
    return this.journal.close();
  }
}

async function run(name: string): Promise<void> {
  const { steps, seed, copies, folder, data } = settings;
  const out = `${folder}/${name}`;
  await files.makeFolder(out);
  const journal = new Paced(await SqliteJournal.open(files, `${out}/journal.sqlite`));
  try {
    const history = historyOf((await journal.read()).records);
    if (history?.done) {
      say({ event: "done", run: name, weights_sha256: history.checkpoint!.weights });
      return;
    }
    const own = history
      ? await RunJournal.goOn(journal)
      : await RunJournal.begin(journal, `${name}-${seed}`, {});
    const checkpoint = `${out}/checkpoint`;
    const saved = (await files.exists(checkpoint)) || (await files.exists(`${checkpoint}.previous`));
    const options: TrainOptions = {
      ...{
        data,
        model: MODEL,
        batch: 8,
        microBatches: 4,
        steps,
        seed,
        strategy: "pipeline",
        schedule: "1f1b",
      },
      ...{ recompute: false, optimizer: { ...DEFAULT_ADAMW, steps }, copies, checkpoint, exportTo: null },
      ...{ resume: saved ? checkpoint : null, keepCheckpoints: 2, validateEvery: 150, checkpointEvery: 100 },
      ...{ sampleBytes: 0, prompt: "\n" },
    };
    const present = [...members];
    const place = () => own.place(present.map(({ name, address }, i) => ({ id: `${i}`, name, address })));
    place();
    const done = await train(options, {
      ...{ node, devices: present.map(({ ref }) => ref), files, clock: systemClock, random: () => 0.5 },
      ...{ profiles: new ProfileCache(files, `${folder}/profiles`, () => {}), journal: own },
      emit: (event) => {
        if (event.event === "plan") say({ event: "plan", works: namesIn(event.plan) });
        else if (event.event === "step") say({ event: "step", step: event.step, ms: event.step_ms });
        else if (event.event === "recovered" || event.event === "replanned") {
          const { plan, ...rest } = event;
          say({ ...rest, works: namesIn(plan) });
        } else if (event.event !== "done") say(event);
      },
      onDevice: (joinRun) => {
        takeIn = (member) => {
          present.push(member);
          place();
          joinRun(member.ref).then(
            () => say({ event: "taken_in", name: member.name }),
            (error: Error) => say({ event: "join_failed", name: member.name, why: error.message }),
          );
        };
        for (const member of members) if (!present.includes(member)) takeIn(member);
        return () => {
          takeIn = undefined;
        };
      },
    });
    say({ event: "done", run: name, weights_sha256: done.weights_sha256 });
  } catch (error) {
    const { message, stack, code } = error as Error & { code?: string };
    say({ event: "failed", run: name, code, message, stack });
  } finally {
    await journal.close();
  }
}

async function arm(name: string, faults: string): Promise<void> {
  const member = members.find((each) => each.name === name);
  await member?.ref.ask.arm(JSON.parse(faults)).catch(() => {}); // It has gone meanwhile.
}

const lines = createInterface({ input: process.stdin });
lines.on("line", (line) => {
  const [, word, first = "", rest = ""] = /^(\S+) (\S+) ?(.*)$/.exec(line) ?? [];
  if (word === "join") void join(first);
  if (word === "run") void run(first);
  if (word === "arm") void arm(first, rest);
});
lines.on("close", async () => {
  await node.close();
  process.exit(0);
});
say({ event: "ready" });
