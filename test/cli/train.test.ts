/** `troupe train` as its user meets it: real device processes over TCP, events, files, and its ends. */

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readCheckpoint, weightsSha256 } from "../../actors/checkpoint.ts";
import { workersOf } from "../../actors/scheduler/plan.ts";
import { files } from "../../runtime/platform/files.ts";
import { TINY, Troupe } from "./troupe.ts";

let folder: string;
let running: Troupe[];
const out = (name = "run") => join(folder, name);

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), "troupe-train-"));
  running = [];
});

afterEach(() => {
  for (const each of running) each.destroy();
  rmSync(folder, { recursive: true, force: true });
});

function start(...args: readonly string[]): Troupe {
  const each = new Troupe(["train", "--json", ...TINY, ...args]);
  running.push(each);
  return each;
}

/** Runs to a good end and returns the events. */
async function train(...args: readonly string[]) {
  const each = start(...args);
  const { code, err, events } = await each.ended();
  expect(err).toBe("");
  expect(code).toBe(0);
  expect(each.living()).toEqual([]);
  return events;
}

const sha256 = (events: Awaited<ReturnType<typeof train>>) => events.at(-1)!.weights_sha256 as string;

test("trains over three processes, tells of it and leaves its results", async () => {
  const settings = ["--steps", "8", "--warmup", "2", "--lr", "0.01", "--checkpoint-every", "4"];
  const trace = join(folder, "trace.json");
  const events = await train(
    ...settings,
    "--validate-every",
    "4",
    "--sample",
    "20",
    "--trace",
    trace,
    "--out",
    out(),
  );
  const step = (count: number) => new Array(count).fill("step");
  const kinds = events.map(({ event }) => event);
  expect(kinds.filter((kind) => kind !== "checkpoint")).toEqual([
    ...["device_joined", "device_joined", "device_joined", "plan"],
    ...[...step(4), "validation", ...step(4), "validation", "sample", "done"],
  ]);
  // Written while the run goes on, but for the last one.
  const saved = events.filter(({ event }) => event === "checkpoint");
  expect(saved.map((event) => event.step)).toEqual([4, 8]);
  expect(kinds.indexOf("checkpoint")).toBeGreaterThan(kinds.indexOf("step") + 3);
  expect(kinds.slice(-3)).toEqual(["checkpoint", "sample", "done"]);
  expect(new Set(events.slice(0, 3).map(({ pid }) => pid)).size).toBe(3);
  for (const { address } of events.slice(0, 3)) expect(address).toMatch(/^tcp:\/\/127\.0\.0\.1:\d+$/);

  const { plan } = events[3]!;
  expect(workersOf(plan).map(({ member }) => member.deviceName)).toEqual([
    "device-1",
    "device-2",
    "device-3",
  ]);
  const steps = events.filter(({ event }) => event === "step");
  expect(steps.map((event) => event.step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  expect(steps.at(-1)!.loss).toBeLessThan(steps[0]!.loss - 0.1);
  const done = events.at(-1)!;
  expect(done.steps).toBe(8);
  expect(done.final_loss).toBe(steps.at(-1)!.loss);
  expect(done.devices).toHaveLength(3);
  for (const { peak_bytes } of done.devices) expect(peak_bytes).toBeGreaterThan(1e6);

  expect(readdirSync(out()).sort()).toEqual([
    "checkpoint",
    "journal.sqlite",
    "loss.jsonl",
    "loss.svg",
    "plan.json",
    "sample.txt",
  ]);
  const losses = readFileSync(join(out(), "loss.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line));
  expect(losses.map(({ step }) => step)).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
  expect(losses.filter(({ validation }) => validation !== undefined).map(({ step }) => step)).toEqual([4, 8]);
  expect(readFileSync(join(out(), "loss.svg"), "utf8")).toStartWith("<svg");
  expect(JSON.parse(readFileSync(join(out(), "plan.json"), "utf8"))).toEqual(plan);
  expect(readFileSync(join(out(), "sample.txt"), "utf8")).toBe(events.at(-2)!.text);
  const { traceEvents } = JSON.parse(readFileSync(trace, "utf8"));
  expect(new Set(traceEvents.map(({ pid }: { pid: number }) => pid)).size).toBe(3);

  const checkpoint = await readCheckpoint(files, done.checkpoint);
  expect(checkpoint.step).toBe(8);
  expect(weightsSha256(checkpoint.parameters)).toBe(done.weights_sha256);
}, 180_000);

test("one device and three end with the same weights", async () => {
  const settings = ["--steps", "4", "--seed", "7", "--sample", "0"];
  const single = await train(...settings, "--strategy", "single", "--out", out("single"));
  const three = await train(
    ...settings,
    "--devices",
    "3",
    "--recompute",
    "--schedule",
    "gpipe",
    "--out",
    out("three"),
  );
  expect(single.filter(({ event }) => event === "device_joined")).toHaveLength(1);
  const losses = (events: typeof single) =>
    events.filter(({ event }) => event === "step").map(({ loss }) => loss);
  expect(losses(three)).toEqual(losses(single));
  expect(sha256(three)).toBe(sha256(single));
}, 180_000);

test("a run that was killed after its checkpoint resumes to the weights of one that was not", async () => {
  const settings = ["--devices", "2", "--steps", "24", "--checkpoint-every", "12", "--sample", "0"];
  const whole = await train(...settings, "--out", out("whole"));

  const killed = start(...settings, "--out", out("killed"));
  await killed.until(({ event }) => event === "checkpoint");
  killed.process.kill("SIGKILL");
  await killed.allGone();
  expect((await readCheckpoint(files, join(out("killed"), "checkpoint"))).step).toBe(12);

  // The text, the model, the batch, the rate and the number of steps come from the checkpoint.
  const resumed = new Troupe(["train", "--json", "--resume", out("killed"), "--sample", "0"]);
  running.push(resumed);
  const { events, err } = await resumed.ended();
  expect(err).toBe("");
  expect(events.find(({ event }) => event === "step")?.step).toBe(13);
  expect(sha256(events)).toBe(sha256(whole));
  const lines = (run: string) =>
    readFileSync(join(out(run), "loss.jsonl"), "utf8").replace(/,"validation":[^}]*/g, "");
  expect(lines("killed")).toBe(lines("whole"));
}, 180_000);

test("without copies a device that dies ends the run, which names it, its last checkpoint and the way to go on", async () => {
  const two = ["--devices", "2", "--copies", "0"];
  const run = start(...two, "--steps", "100000", "--checkpoint-every", "2", "--out", out());
  const { pid } = await run.until(({ name }) => name === "device-2");
  await run.until(({ event }) => event === "checkpoint");
  process.kill(pid, "SIGKILL");
  const { code, err, events } = await run.ended();
  expect(run.living()).toEqual([]);
  expect(code).toBe(1);
  const checkpoint = join(out(), "checkpoint");
  expect(err).toMatch(/^troupe: device-2 is gone: its process ended with SIGKILL; [^\n]+\n$/);
  expect(err).toContain(
    `the last checkpoint is ${checkpoint}, go on with: npx bun run train --resume ${out()}`,
  );
  expect(events).toContainEqual({
    event: "device_left",
    name: "device-2",
    reason: "its process ended with SIGKILL",
  });
  expect(events.at(-1)?.event).toBe("error");

  const { step } = await readCheckpoint(files, checkpoint);
  const more = ["--devices", "2", "--steps", `${step + 2}`, "--sample", "0"];
  const resumed = await train(...more, "--resume", out());
  expect(resumed.at(-1)).toMatchObject({ event: "done", steps: step + 2 });
}, 180_000);

test("a device that dies before there is a checkpoint says so", async () => {
  const run = start("--devices", "1", "--steps", "100000", "--checkpoint-every", "100000", "--out", out());
  const { pid } = await run.until(({ name }) => name === "device-1");
  await run.until(({ event }) => event === "step");
  process.kill(pid, "SIGKILL");
  const { code, err } = await run.ended();
  expect(run.living()).toEqual([]);
  expect(code).toBe(1);
  expect(err).toBe("troupe: device-1 is gone: its process ended with SIGKILL; there is no checkpoint yet\n");
}, 180_000);

test.each([
  ["SIGINT", 130],
  ["SIGTERM", 143],
] as const)(
  "%s to it, or to all of its processes, ends it behind the step under way, with a checkpoint",
  async (signal, exitCode) => {
    const settings = ["--steps", "100000", "--checkpoint-every", "100000", "--out", out()];
    const run = start("--devices", "2", ...settings);
    await run.until(({ event, step }) => event === "step" && step === 3);
    const all = signal === "SIGTERM" ? [...run.living(), run.process.pid] : [run.process.pid];
    for (const pid of all) process.kill(pid, signal);
    const { code, err, events } = await run.ended();
    expect(run.living()).toEqual([]);
    expect(code).toBe(exitCode);
    const last = events.findLast(({ event }) => event === "step")!.step;
    const told = new RegExp(
      `^troupe: ended by ${signal} behind step ${last}; the last checkpoint is [^\\n]+\\n$`,
    );
    expect(err).toMatch(told);
    expect(events.filter(({ event }) => event === "ending")).toEqual([{ event: "ending", signal }]);
    expect((await readCheckpoint(files, join(out(), "checkpoint"))).step).toBe(last);
  },
  180_000,
);

test("told twice to end, it ends at once, and says how to go on", async () => {
  const args = ["--join", "", "--steps", "100000", "--chaos", "hang desk at step 3", "--out", out()];
  const desk = new Troupe(["node", "--json", "--listen", "tcp://127.0.0.1:0", "--name", "desk", "--chaos"]);
  running.push(desk);
  args[1] = (await desk.until(({ event }) => event === "listening")).address;
  const run = start(...args);
  await run.until(({ event, step }) => event === "step" && step === 2);
  run.process.kill("SIGINT");
  await run.until(({ event }) => event === "ending");
  await Bun.sleep(600); // Any sooner it would be the same signal.
  run.process.kill("SIGINT");
  const { code, err } = await run.ended();
  const how = `its nodes keep what they have of it for a while, go on with: npx bun run train --resume ${out()}`;
  expect([code, err]).toEqual([130, `troupe: ended at once by SIGINT; ${how}\n`]);
}, 120_000);

test("told to end before there is anything to lose, it ends at once", async () => {
  const run = start("--devices", "1", "--out", out());
  await run.until(({ event }) => event === "device_joined");
  run.process.kill("SIGINT");
  const { code, err } = await run.ended();
  expect(run.living()).toEqual([]);
  expect([code, err]).toEqual([130, "troupe: ended by SIGINT\n"]);
  expect(existsSync(join(out(), "checkpoint"))).toBe(false);
}, 120_000);

test("ends when nobody reads what it says", async () => {
  const run = Bun.spawn(
    ["sh", "-c", `"$0" cli/main.ts train "$@" | head -n 1`, process.execPath, "--json", ...TINY].concat(
      ...["--devices", "1", "--steps", "100000", "--out", out()],
    ),
    { cwd: join(import.meta.dir, "../.."), stdin: "ignore", stdout: "pipe", stderr: "pipe" },
  );
  const [first, err] = await Promise.all([
    new Response(run.stdout).text(),
    new Response(run.stderr).text(),
    run.exited,
  ]);
  expect(JSON.parse(first).event).toBe("device_joined");
  expect(err).toMatch(/^troupe: nobody reads standard output any more[^\n]*\n$/);
}, 180_000);

test("without --json the sample is all there is on standard output", async () => {
  const run = new Troupe([
    "train",
    ...TINY,
    "--devices",
    "2",
    "--steps",
    "4",
    "--sample",
    "30",
    "--out",
    out(),
  ]);
  running.push(run);
  const { code, out: printed, err } = await run.ended();
  expect(code).toBe(0);
  expect(printed).toBe(`${readFileSync(join(out(), "sample.txt"), "utf8")}\n`);
  expect(err).not.toContain("\x1b");
  expect(err).toMatch(/device +segments +parameters +micro-batch +memory +copies +reason/);
  expect(err).toMatch(/step 4\/4 {2}loss \d\.\d{3}/);
  expect(err).toMatch(/device-2( +[\d.]+ %){4} +\d+ MB/);
  expect(err).toMatch(/energy +[\d.e+]+ J a step, (partly )?(measured|modelled) \(.+\)/);
}, 180_000);

describe("a checkpoint", () => {
  let refused: (...args: string[]) => Promise<string>;

  beforeEach(async () => {
    await train("--strategy", "single", "--steps", "1", "--sample", "0", "--out", out());
    refused = async (...args) => {
      const run = start("--resume", out(), "--steps", "2", ...args);
      const { code, err, events } = await run.ended();
      expect(code).not.toBe(0);
      expect(run.living()).toEqual([]);
      expect(events.map(({ event }) => event)).toEqual(["error"]);
      expect(err).toMatch(/^troupe: [^\n]+\n$/);
      return err;
    };
  });

  test("that is truncated, or of another model, is refused", async () => {
    const other = new Troupe([
      "train",
      "--json",
      "--resume",
      out(),
      "--steps",
      "2",
      "--width",
      "64",
      "--layers",
      "2",
    ]);
    running.push(other);
    const { code, err } = await other.ended();
    expect(code).toBe(1);
    expect(err).toMatch(
      /is of another model: layers is 1 there and 2 here, width is 32 there and 64 here\n$/,
    );

    const weights = join(out(), "checkpoint", "model.safetensors");
    truncateSync(weights, 1000);
    expect(await refused()).toMatch(/model\.safetensors is truncated or was changed/);
    writeFileSync(join(out(), "checkpoint", "state.json"), '{"format":1,');
    expect(await refused()).toMatch(/state\.json is truncated or not JSON/);
    expect(existsSync(weights)).toBe(true);
  }, 180_000);
});
