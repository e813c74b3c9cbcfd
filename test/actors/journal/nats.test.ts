/** A journal on a NATS server: who writes, who is refused, and what is left of what was damaged. */

import { afterAll, afterEach, beforeAll, describe, expect, test } from "bun:test";
import { jetstreamManager } from "@nats-io/jetstream";
import { connect } from "@nats-io/transport-node";
import { Deposed } from "../../../actors/journal/leader-lease.ts";
import { NatsJournal } from "../../../actors/journal/nats.ts";
import { natsPlace } from "../../../actors/journal/nats-place.ts";
import { connectNats, type Nats } from "../../../runtime/platform/nats.ts";
import { failure } from "../../runtime/world.ts";
import { BEGIN, journalContract, steps } from "./contract.ts";
import { lacksNats, NatsServer } from "./nats-server.ts";

describe("the address of a run", () => {
  test("names a server and a name, and may name a checkpoint", () => {
    expect(natsPlace("nats://box.local/run-7")).toMatchObject({
      ...{
        address: "nats://box.local:4222/run-7",
        server: "nats://box.local:4222",
        name: "run-7",
        step: null,
      },
    });
    expect(natsPlace("nats://[::1]:5000/a/step-12")).toMatchObject({ server: "nats://[::1]:5000", step: 12 });
  });

  test.each([
    "nats://box",
    "nats://box/",
    "nats://box/a.b",
    "nats://box:99999/a",
    "nats://box/a/b",
    "nats:box/a",
  ])("%s is none", (address) => {
    expect(() => natsPlace(address)).toThrow("nats://<host>[:<port>]/<name> is expected");
  });

  test("has no credentials in it, and they are not repeated", () => {
    const given = () => natsPlace("nats://me:secret@box/a");
    expect(given).toThrow("NATS_USER");
    expect(given).not.toThrow("secret");
  });
});

describe.skipIf(lacksNats !== null)(`on a NATS server${lacksNats === null ? "" : `: ${lacksNats}`}`, () => {
  let server: NatsServer;
  let open: { close(): Promise<void> }[] = [];
  let runs = 0;
  let address = "";
  beforeAll(async () => {
    server = await NatsServer.start();
  });
  afterEach(async () => {
    for (const each of open) await each.close();
    open = [];
    address = "";
  });
  afterAll(() => server?.stop());

  async function journal(writer = "a"): Promise<NatsJournal> {
    if (address === "") address = `${server.address}/run-${runs++}`;
    const found = await NatsJournal.open(address, writer);
    open.push(found);
    return found;
  }

  async function connected(): Promise<Nats> {
    const nats = await connectNats(server.address);
    open.push(nats);
    return nats;
  }

  journalContract("there", journal);

  test("the next one who opens it has all of it, and goes on behind it", async () => {
    await (await journal()).append([BEGIN, ...steps(0, 5)]);
    const next = await journal("b");
    await next.append(steps(5, 6));
    expect(await next.read()).toEqual({ records: [BEGIN, ...steps(0, 6)], damage: null });
  });

  test("of two who write, the second is refused, and nothing of it is there", async () => {
    const [first, second] = [await journal("a"), await journal("b")];
    await first.append([BEGIN]);
    expect(await failure(second.append(steps(7, 8)))).toBeInstanceOf(Deposed);
    expect((await first.read()).records).toEqual([BEGIN]);
    await second.catchUp();
    await second.append(steps(0, 1));
    // Now it is the other one who does not know the last word.
    expect(await failure(first.append(steps(8, 9)))).toBeInstanceOf(Deposed);
    expect((await second.read()).records).toEqual([BEGIN, ...steps(0, 1)]);
  });

  test("what was added and never answered is not added again", async () => {
    const first = await journal("a");
    await first.append([BEGIN]);
    // As the server has it when its answer was lost: what comes next is told that it is late.
    const twin = await journal("a");
    await twin.append(steps(0, 1));
    await first.append(steps(0, 1));
    expect((await first.read()).records).toEqual([BEGIN, ...steps(0, 1)]);
    // Whoever gave it up, and goes on with something else, is not taken for another one.
    await twin.append(steps(1, 2));
    await first.append(steps(2, 3));
    expect((await first.read()).records).toEqual([BEGIN, ...steps(0, 3)]);
  });

  test("what is no entry, or a changed one, is left out, and that is said", async () => {
    const first = await journal("a");
    for (let step = 0; step < 4; step++) await first.append(steps(step, step + 1));
    const { name } = natsPlace(address);
    const log = await (await connected()).log(`TROUPE_${name}`);
    const good = (await log.read(1))[0]!.entry;
    await log.append(good.replace('"step":1', '"step":7'), 4);
    await log.append("something else", 5);
    const second = await journal("b");
    await second.append(steps(4, 5));
    const { records, damage } = await second.read();
    expect(records).toEqual(steps(0, 5));
    expect(damage).toContain(`the journal at ${address} is damaged, 2 of its 7 entries cannot be used`);
  });

  test("what the server has lost is missed, wherever it was", async () => {
    const first = await journal("a");
    for (let step = 0; step < 5; step++) await first.append(steps(step, step + 1));
    const connection = await connect({ servers: server.address });
    const { streams } = await jetstreamManager(connection);
    const stream = `TROUPE_${natsPlace(address).name}`;
    for (const number of [2, 5]) await streams.deleteMessage(stream, number);
    await connection.close();
    const second = await journal("b");
    const { records, damage } = await second.read();
    expect(records).toEqual([...steps(0, 1), ...steps(2, 4)]);
    expect(damage).toContain("1 of its 4 entries cannot be used");
    await second.append(steps(5, 6));
    expect((await second.read()).records).toEqual([...steps(0, 1), ...steps(2, 4), ...steps(5, 6)]);
  });

  test("an entry that is larger than the server takes is told, with what to do", async () => {
    const first = await journal("a");
    const settings = { text: "x".repeat(2 << 20) };
    const error = await failure(first.append([{ kind: "run", run: "r", settings }]));
    expect(error.message).toMatch(/takes at most 1048576 bytes at once, .*: raise its max_payload/);
  });

  test("a server that is not there, or has no JetStream, is told in a line, with what to do", async () => {
    const gone = await NatsServer.start([]);
    const without = await failure(NatsJournal.open(`${gone.address}/run`, "a"));
    await gone.stop();
    expect(without.message).toBe(
      `the NATS server at ${gone.address} has no JetStream: start it as nats-server -js`,
    );
    const silent = await failure(NatsJournal.open(`${gone.address}/run`, "a"));
    expect(silent.message).toBe(`nobody answers at ${gone.address}: start nats-server -js there`);
  });

  test("a server that wants credentials says so", async () => {
    const closed = await NatsServer.start(["-js", "--user", "me", "--pass", "secret"]);
    try {
      const refused = await failure(NatsJournal.open(`${closed.address}/run`, "a"));
      expect(refused.message).toContain("does not let us in: set NATS_USER and NATS_PASSWORD");
      process.env.NATS_USER = "me";
      process.env.NATS_PASSWORD = "secret";
      await (await NatsJournal.open(`${closed.address}/run`, "a")).close();
    } finally {
      delete process.env.NATS_USER;
      delete process.env.NATS_PASSWORD;
      await closed.stop();
    }
  });
});
