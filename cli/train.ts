/**
 * `troupe train`: checks what was asked, brings up the devices, runs, keeps the results, and takes everything down
 * again on every way out.
 */

import type { Chaos } from "../actors/chaos/chaos.ts";
import type { DevicePlace } from "../actors/journal/journal.ts";
import { Deposed } from "../actors/journal/leader-lease.ts";
import type { RunJournal } from "../actors/journal/run-journal.ts";
import { DeviceLost } from "../actors/recovery/roster.ts";
import { RunStopped } from "../actors/run-stopped.ts";
import { prepare, train as trainRun } from "../actors/train.ts";
import { DEFAULT_GPT, gptParameters } from "../nn/models/gpt.ts";
import { findSegments } from "../nn/segments.ts";
import { elements } from "../protocols/tensor.ts";
import { seededRandom, systemClock, systemRandom } from "../runtime/index.ts";
import { files } from "../runtime/platform/files.ts";
import { lock } from "../runtime/platform/lock.ts";
import { machine } from "../runtime/platform/machine.ts";
import { standardError, standardOutput } from "../runtime/platform/process.ts";
import { faultText } from "./chaos.ts";
import { type Command, CommandError, UsageError } from "./command.ts";
import { Devices, type JoinedDevice } from "./devices.ts";
import { Ending } from "./ending.ts";
import type { Reporter, RunEvent } from "./events.ts";
import { goOn, quoted } from "./go-on.ts";
import { type Abandoned, abandonedRun, runJournal } from "./journal.ts";
import { jsonReport } from "./json-report.ts";
import { type Leadership, takeLead } from "./leadership.ts";
import { type Options, parseOptions } from "./options.ts";
import { printModel } from "./print.ts";
import { profilesOf } from "./profiles.ts";
import { Results } from "./results.ts";
import { beginChaos, isPassing } from "./run-chaos.ts";
import { protectionOf } from "./security.ts";
import { StrategyNews } from "./strategy-news.ts";
import { count } from "./terminal.ts";
import { textReport } from "./text-report.ts";
import { TRAIN_OPTIONS, type TrainSettings, trainSettings } from "./train-options.ts";
import { linkProtection } from "./transports.ts";

const PARAMETERS = gptParameters(DEFAULT_GPT).reduce((sum, { shape }) => sum + elements(shape), 0);

export const train: Command = {
  name: "train",
  summary: "train a model across device processes",
  options: TRAIN_OPTIONS,
  notes: [
    `Without options: a GPT of ${count(PARAMETERS)} parameters on installed TypeScript declarations, over three processes.`,
    "Ctrl-C ends a run behind the step under way, with a checkpoint that --resume goes on from; twice, it ends at once.",
    "One that was killed goes on by the same command, or by --resume; nodes that it had joined wait for it.",
    "With --journal nats://… the same command, also on another machine, stands by and takes the run over.",
  ],
  run: async (args) => {
    const given = parseOptions("train", TRAIN_OPTIONS, args);
    const tell = (damage: string) => standardError.write(`troupe: ${damage}\n`);
    const { memoryBytes } = machine();
    const check = (options: Options, goesOn: boolean) =>
      trainSettings(options, files, systemClock.now(), memoryBytes, goesOn);
    if (given.has("journal") && !given.has("print")) {
      const show = (event: RunEvent, settings: TrainSettings) => reportOf(settings).show(event);
      const world = { files, clock: systemClock, random: systemRandom, check, tell, show };
      const led = await takeLead(given, world);
      if (led) await run(led.settings, led.options, led.abandoned, led);
      return 0;
    }
    const abandoned = await abandonedRun(given, files, tell);
    const options = abandoned?.options ?? given;
    const settings = await check(options, abandoned !== null);
    const { print } = settings;
    if (print) await printModel(print.what, print.to, settings.run, files, standardOutput);
    else await run(settings, options, abandoned, null);
    return 0;
  },
};

function reportOf({ json, run: { steps }, out }: TrainSettings): Reporter {
  return json
    ? jsonReport(standardOutput, standardError)
    : textReport(standardOutput, standardError, { steps, out });
}

async function run(
  settings: TrainSettings,
  given: Options,
  abandoned: Abandoned | null,
  leadership: Leadership | null,
): Promise<void> {
  const { run: options, out, trace } = settings;
  const report = reportOf(settings);
  const results = new Results(files, out);
  let lastCheckpoint: string | null = null;
  let planned = false;
  /** How to go on. @param isKept whether nodes keep what they have of the run. */
  const further = (isKept: boolean) => {
    if (leadership) return "; the same command goes on with the run";
    if (lastCheckpoint !== null || !isKept) return goOn(lastCheckpoint, settings);
    return `; its nodes keep what they have of it for a while, go on with: npx bun run train --resume ${quoted(out)}`;
  };
  /** Whether nodes have something that they keep where nobody tells them that the run is over. */
  const wouldBeKept = () => planned && isReached(settings);
  const ending = new Ending(
    (signal) => void emit({ event: "ending", signal }),
    (signal) => standardError.write(`troupe: ended at once by ${signal}${further(wouldBeKept())}\n`),
  );
  /** Rejects where nobody is left, and nobody can come. */
  const bereft = Promise.withResolvers<never>();
  bereft.promise.catch(() => {}); // It may be before anybody waits for it.
  /** What has to be told, or kept, before this is. @returns whether this is to be told. */
  const before = async (event: RunEvent): Promise<boolean> => {
    // Who hears of a checkpoint may rely on the losses up to it.
    if (event.event === "checkpoint") await results.settle();
    if (event.event === "recovered") await devices.gotOver(event.lost);
    if (event.event === "paused") {
      await devices.toldLosses();
      const isOver = planned && !isReached(settings) && !devices.someIsThere && !devices.someReturns;
      if (isOver) bereft.reject(new DeviceLost(event.reason));
      return !isOver;
    }
    if (event.event !== "done") return true;
    await devices.toldLosses();
    for (const { fault, why } of (await chaos?.missed()) ?? [])
      report.show({ event: "fault_missed", fault: faultText(fault), why });
    // It is the last that is told, and devices are let go behind it.
    await devices.over();
    return true;
  };
  const strategy = new StrategyNews(given.text("strategy"));
  /** When all so far has been told, in its order. */
  let told: Promise<unknown> = Promise.resolve();
  const emit = (event: RunEvent): Promise<void> => {
    if (event.event === "checkpoint") lastCheckpoint = event.path;
    if (event.event === "plan") planned = true;
    if ("plan" in event) chaos?.planned(event.plan);
    if (event.event === "step" || event.event === "resumed") lastCheckpoint ??= options.resume;
    // One that another may go on with, as it is on its nodes, is handed over at once.
    if (!leadership || !isReached(settings)) ending.take(event);
    results.take(event);
    const turn = told
      .then(() => before(event))
      .then((isTold) => {
        if (isTold) report.show(event);
      });
    told = turn.catch(() => {});
    if (event.event === "step") chaos?.reached(event.step);
    const replaced = "plan" in event ? strategy.of(event.plan) : null;
    if (replaced) void emit(replaced);
    return turn;
  };
  /** Of devices: what others wait for. */
  const tellNow = (event: RunEvent) => {
    results.take(event);
    report.show(event);
  };
  const { security } = settings;
  const devices = new Devices(settings, {
    listening: (address) =>
      void emit({ event: "listening", address, protection: protectionOf(security, address) }),
    waiting: () => void emit({ event: "paused", reason: "no device has come yet" }),
    joined: ({ name, address, pid, peer }) => {
      const { transport, route } = peer;
      const how = pid === undefined ? { protection: linkProtection(security, peer) } : { pid };
      tellNow({ event: "device_joined", name, address, transport, route, ...how });
      journal?.place(placesOf(devices.joined));
      chaos?.joined(name);
    },
    left: (name, reason) => {
      const againMs = chaos?.lost(name);
      tellNow({ event: "device_left", name, reason });
      if (againMs !== undefined) void devices.startAgain(name, againMs);
    },
    said: (name, line) => report.said(name, line),
  });

  const existed = await files.exists(out);
  let release = async () => {};
  let chaos: Chaos | undefined;
  let journal: RunJournal | undefined;
  /** Whether another one leads the run from here on: devices keep it, and what ends here is not to look like its end. */
  let handedOver = false;
  leadership?.onAway((why) => report.said("journal", `${why}; the run waits for it`));
  const work = async () => {
    if (leadership) await emit(leadership.event);
    await files.makeFolder(out);
    release = await lock(`${out}/.lock`);
    for (const damage of settings.damaged) await emit({ event: "checkpoint_damaged", ...damage });
    const prepared = await prepare(options, files, settings.resumed);
    if (trace !== null) await requireWritable(trace);
    if (prepared.resumed) await results.takeOver(prepared.resumed.step);
    if (abandoned) results.restore(abandoned.history);
    await devices.open({
      devices: startable(settings, findSegments(prepared.task.model).length),
      ...(abandoned && { lacks: true, known: knownPlaces(settings, abandoned) }),
    });
    const done = abandoned ? (abandoned.history.step ?? -1) + 1 : (prepared.resumed?.step ?? 0);
    chaos = await beginChaos(settings, devices, done, (fault, isLoss) => {
      // The device that it has come over is told of next.
      if (isLoss) tellNow({ event: "fault", fault });
      else void emit({ event: "fault", fault });
    });
    // What cannot begin is not written down.
    journal = await runJournal(out, files, given, abandoned, systemRandom, leadership);
    const { node } = devices;
    const random = seededRandom(options.seed);
    const note = (line: string) => report.said("profiles", line);
    const world = {
      ...{ node, files, clock: systemClock, emit, random: () => random.next() },
      ...{ profiles: profilesOf(settings.freshProfile, note), journal, ending: ending.behindStep },
      called: devices.nameOf.bind(devices),
      ...(mayCome(settings) && { onDevice: devices.onDevice.bind(devices) }),
    };
    for (let over = false; !over; ) {
      const present = devices.present();
      journal.place(placesOf(devices.joined));
      over = await trainRun(options, { ...world, devices: present }, prepared).then(
        () => true,
        async (error) => {
          // There is nothing yet that could be lost.
          if (planned || !mayCome(settings) || !isLoss(error) || devices.someIsThere) throw error;
          void emit({ event: "paused", reason: (await devices.lastLoss()) ?? error.message });
          await devices.someone();
          return false;
        },
      );
    }
    await results.settle();
    if (trace !== null) await results.writeTrace(trace);
  };
  try {
    await Promise.race([work(), ending.atOnce, bereft.promise, ...(leadership ? [leadership.deposed] : [])]);
  } catch (caught) {
    const loss = isLoss(caught) ? await devices.lastLoss() : undefined;
    const error = endedAs(caught, loss, ending) ?? caught;
    const isDeposed = error instanceof Deposed;
    // Nodes of a run that could not end in order keep what they have of it.
    const isBrokenOff = error === caught && error instanceof CommandError && error.code === "INTERRUPTED";
    handedOver = isDeposed || (isBrokenOff && (leadership !== null || wouldBeKept()));
    if (isDeposed || (loss === undefined && lastCheckpoint === null && !handedOver)) throw error;
    const said = error === caught ? (loss ?? (error as Error).message) : (error as Error).message;
    throw new CommandError("RUN", said + further(handedOver), exitCodeOf(error));
  } finally {
    chaos?.close();
    await told;
    report.close();
    if (!handedOver) await devices.close();
    await results.settle().catch(() => {}); // What failed first has been told.
    await (journal ?? leadership?.journal)?.close();
    await release();
    if (!existed && (await files.isFolder(out)) && (await files.list(out)).length === 0)
      await files.remove(out);
  }
}

/** Where the devices are, by the ids that plans know them by. */
function placesOf(joined: readonly JoinedDevice[]): readonly DevicePlace[] {
  return joined.map(({ name, address }, i) => ({ id: `${i}`, name, address }));
}

/** Whether there may be another device than those that the run begins with. */
function mayCome(settings: TrainSettings): boolean {
  return isReached(settings) || isPassing(settings);
}

/** Whether there are devices that were not started here. */
function isReached({ join, listen }: TrainSettings): boolean {
  return join.length > 0 || listen !== undefined;
}

/** Where devices were that were not started here: processes of a run's own have ended with it. */
function knownPlaces(settings: TrainSettings, { history }: Abandoned): readonly DevicePlace[] {
  return isReached(settings) ? (history.planned?.devices ?? []) : [];
}

/** Codes of errors that a lost device explains. */
const LOSSES: readonly unknown[] = ["DEVICE_LOST", "NODE_LOST"];

const isLoss = (error: unknown) => LOSSES.includes((error as { code?: unknown }).code);

/**
 * Device processes to start for a model of so many segments. In a pipeline each device takes one at least.
 * @throws UsageError when more were asked for, or are joined.
 */
export function startable({ devices, devicesAsked, join, run }: TrainSettings, segments: number): number {
  const wanted = devices + join.length;
  if (run.strategy !== "pipeline") return devices;
  if (wanted > segments && (devicesAsked || join.length > 0)) {
    throw new UsageError(
      `${wanted} devices are more than the model's ${segments} segments: use at most ${segments} devices`,
    );
  }
  return Math.min(devices, segments);
}

/** The end of a run that was told to end, where that is why it ended. */
function endedAs(error: unknown, loss: string | undefined, ending: Ending): CommandError | undefined {
  if (error instanceof RunStopped) return ending.byRequest(` behind step ${error.step}`);
  // What was to be waited for will not come.
  return loss === undefined ? undefined : ending.byRequest(`, and ${loss}`);
}

function exitCodeOf(error: unknown): number {
  return error instanceof CommandError ? error.exitCode : 1;
}

/** @throws FileError now rather than at the end of the run. */
async function requireWritable(path: string): Promise<void> {
  if (await files.isFile(path)) return; // It will be replaced at the end.
  await files.write(path, []);
  await files.remove(path);
}
