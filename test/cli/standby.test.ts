/**
 * Coordinators that stand by: one is stopped and goes on when another one leads already, one is killed, one is told to end,
 * and the run ends on the same devices with the weights of one that was spared.
 */

import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { readCheckpoint } from "../../actors/checkpoint.ts";
import type { JournalRecord } from "../../actors/journal/journal.ts";
import { NatsJournal } from "../../actors/journal/nats.ts";
import { files } from "../../runtime/platform/files.ts";
import { lacksNats, NatsServer } from "../actors/journal/nats-server.ts";
import type { Performed } from "./many.ts";
import { type Event, TINY, Troupe } from "./troupe.ts";

const STEPS = 24;
const RUN = [
  ...["--layers", "2", "--steps", `${STEPS}`, "--seed", "7", "--sample", "0"],
  ...["--validate-every", "5", "--checkpoint-every", "7"],
];
/** So long a leader may be silent: more than a busy machine keeps it from a word, less than a test may wait. */
const PATIENCE_MS = 2500;

const named = (events: readonly Event[], name: string) => events.filter(({ event }) => event === name);
const atStep = (step: number) => (event: Event) => event.event === "step" && event.step >= step;
const isCalled = (name: string) => (event: Event) => event.event === name;

describe.skipIf(lacksNats !== null)(
  `a run whose journal is on a server${lacksNats === null ? "" : `: ${lacksNats}`}`,
  () => {
    let folder: string;
    let server: NatsServer;
    let running: Troupe[] = [];
    beforeAll(async () => {
      folder = mkdtempSync(join(tmpdir(), "troupe-standby-"));
      server = await NatsServer.start();
    });
    afterEach(() => {
      for (const each of running) each.destroy();
      running = [];
    });
    afterAll(async () => {
      await server?.stop();
      rmSync(folder, { recursive: true, force: true });
    });

    function start(...args: readonly string[]): Troupe {
      const each = new Troupe(args);
      running.push(each);
      return each;
    }

    const losses = (name: string) => readFileSync(join(folder, name, "loss.jsonl"), "utf8");

    test("is taken over from a leader that was stopped and goes on, was killed, or was told to end", async () => {
      const nodes = [1, 2].map((i) =>
        start("node", "--json", "--listen", "tcp://127.0.0.1:0", "--name", `node-${i}`),
      );
      const addresses = await Promise.all(nodes.map((node) => node.until(isCalled("listening"))));
      const train = (name: string, ...more: readonly string[]) =>
        start(
          ...["train", "--json", ...TINY.slice(2), ...RUN, "--out", join(folder, name), ...more],
          ...addresses.flatMap(({ address }) => ["--join", address]),
        );
      const spared = (await train("spared").ended()).events.at(-1)!;
      expect(spared.event).toBe("done");

      const journal = ["--journal", `${server.address}/run`, "--patience", `${PATIENCE_MS}`];
      // The first one sleeps, and wakes up when the second one has just begun to lead.
      const first = train("first", ...journal);
      await first.until(atStep(3));
      first.process.kill("SIGSTOP");
      const second = train("second", ...journal);
      const standby = await second.until(isCalled("standby"));
      expect(standby.leader).toStartWith(`process ${first.process.pid} on `);
      await second.until(isCalled("leader"));
      first.process.kill("SIGCONT");
      const ended = await first.ended();
      expect([ended.code, ended.err]).toEqual([
        1,
        expect.stringMatching(
          /^troupe: process \d+ on .* leads the run now: start this command again to stand by\n$/,
        ),
      ]);

      await second.until(atStep(8));
      second.process.kill("SIGKILL");
      const third = train("third", ...journal);
      await third.until(isCalled("standby"));
      await third.until(atStep(12));
      third.process.kill("SIGINT");
      const told = await third.ended();
      expect([told.code, told.err]).toEqual([130, expect.stringContaining("ended by SIGINT")]);

      // Whoever ends has given it back: nobody waits for anything.
      const fourth = train("fourth", ...journal);
      const leader = await fourth.until(isCalled("leader"));
      expect(leader.waited_ms).toBe(0);
      await fourth.until(atStep(16));
      fourth.process.kill("SIGSTOP");
      const fifth = train("fifth", ...journal);
      await fifth.until(isCalled("standby"));
      fourth.process.kill("SIGCONT");
      const { code, err, events } = await fourth.ended();
      expect([code, err]).toEqual([0, ""]);

      const successors = [(await second.ended()).events, told.events, events];
      let epoch = 0;
      let last = 2;
      for (const each of successors) {
        const [leader] = named(each, "leader");
        expect(leader!.epoch).toBeGreaterThan(epoch);
        epoch = leader!.epoch;
        // It goes on where the one before it was, and nothing is lost but a step.
        const [resumed] = named(each, "resumed");
        expect(resumed).toMatchObject({ from_checkpoint: false });
        expect(resumed!.steps_lost).toBeWithin(0, 2);
        expect(resumed!.step).toBeGreaterThanOrEqual(last - 1);
        last = named(each, "step").at(-1)!.step;
      }
      expect(events.at(-1)).toMatchObject({ event: "done", weights_sha256: spared.weights_sha256 });
      expect(losses("fourth")).toEqual(losses("spared"));
      // Nobody need stand by for it any more.
      const spare = await fifth.ended();
      expect([spare.code, spare.err]).toEqual([0, ""]);
      const waited = ["standby", "standby_ended"].map((event) => ({
        event,
        journal: `${server.address}/run`,
      }));
      expect(spare.events).toMatchObject(waited);
      expect(spare.events[1]!.steps).toBe(STEPS);
      // Its checkpoints are where its journal is.
      expect(events.at(-1)!.checkpoint).toBe(`${server.address}/run`);
      expect((await readCheckpoint(files, `${server.address}/run`)).step).toBe(STEPS);
    }, 180_000);

    test("that cannot be led by this command is told in a line, before anything is started", async () => {
      const plain = await NatsServer.start([]);
      await plain.stop();
      const without = await NatsServer.start([]);
      const write = async (name: string, records: readonly JournalRecord[]) => {
        const journal = await NatsJournal.open(`${server.address}/${name}`, "test");
        await journal.append(records);
        await journal.close();
      };
      const plan = { kind: "plan", generation: 1, plan: {} as never, devices: [] } as const;
      const begun = { kind: "run", run: "r", settings: { options: { steps: ["5"], seed: ["1"] } } } as const;
      await write("other", [begun, plan, { kind: "step", step: 0, loss: 5 }]);
      await write("done", [begun, plan, { kind: "done", steps: 5 }]);
      const mistakes: [string[], number, string][] = [
        [
          ["--journal", "redis://box/a"],
          2,
          "--journal redis://box/a: expected nats://<host>[:<port>]/<name>",
        ],
        [
          ["--journal", "nats://box"],
          2,
          "nats://box names no place for a run: nats://<host>[:<port>]/<name>",
        ],
        [["--journal", "nats://me:secret@box/a"], 2, "give credentials as NATS_USER and NATS_PASSWORD"],
        [
          ["--journal", `${plain.address}/a`],
          1,
          `nobody answers at ${plain.address}: start nats-server -js there`,
        ],
        [
          ["--journal", `${without.address}/a`],
          1,
          `${without.address} has no JetStream: start it as nats-server -js`,
        ],
        [
          ["--journal", `${server.address}/other`, "--steps", "9", "--seed", "1"],
          2,
          "/other holds a run that is not done, with another --steps: choose another name, or stand by",
        ],
        [["--journal", `${server.address}/done`], 2, "/done holds a run that is done: choose another name"],
        [["--journal", `${server.address}/fresh`, "--steps", "0"], 2, "--steps 0: expected a whole number"],
      ];
      const lines = mistakes.map(([args]) => ["train", "--out", join(folder, "never"), ...args]);
      const child = Bun.spawn([process.execPath, join(import.meta.dir, "many.ts"), JSON.stringify(lines)], {
        ...{ cwd: join(import.meta.dir, "../.."), stdin: "ignore", stdout: "pipe", stderr: "inherit" },
      });
      const performed: Performed[] = JSON.parse(await new Response(child.stdout).text());
      await without.stop();
      for (const [i, [, exitCode, line]] of mistakes.entries()) {
        const { code, out, err, left } = performed[i]!;
        expect(err).toMatch(/^troupe: [^\n]+\n$/);
        expect(err).toContain(line);
        expect(err).not.toContain("secret");
        expect([code, out, left]).toEqual([exitCode, "", []]);
      }
      expect(await files.exists(join(folder, "never"))).toBe(false);
      const connection = await connect({ servers: server.address });
      const streams = await (await jetstreamManager(connection)).streams.names().next();
      await connection.close();
      expect(streams).toContain("TROUPE_other");
      expect(streams.filter((name) => name.endsWith("_fresh"))).toEqual([]);
    }, 120_000);
  },
);
