/** Checkpoints on a NATS server: whole or not there, as many as asked, and out of reach of who does not lead any more. */

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { type JetStreamClient, jetstream, jetstreamManager, type StreamAPI } from "@nats-io/jetstream";
import { Objm } from "@nats-io/obj";
import { connect } from "@nats-io/transport-node";
import { openStore } from "../../../actors/checkpoint/store.ts";
import { CheckpointWriter, type Draft } from "../../../actors/checkpoint/writer.ts";
import {
  type Damage,
  hasCheckpoints,
  prepareCheckpoint,
  readCheckpoint,
} from "../../../actors/checkpoint.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { files } from "../../../runtime/platform/files.ts";
import { connectNats } from "../../../runtime/platform/nats.ts";
import { failure } from "../../runtime/world.ts";
import { lacksNats, NatsServer } from "../journal/nats-server.ts";

function draft(step: number): Draft {
  const values: Record<string, Tensor> = {
    w: Tensor.f32([2, 2], [1, 2, 3, step]),
    "m.w": Tensor.f32([2, 2], [step, 0, 0, 1]),
  };
  return {
    ...{ step, seed: 7, model: { kind: "gpt" }, training: { batch: 16 } },
    shards: [{ model: ["w"], optimizer: ["m.w"] }],
    values: async (names) => Object.fromEntries(names.map((name) => [name, values[name]!])),
    onnx: async () => null,
  };
}

describe.skipIf(lacksNats !== null)(`on a NATS server${lacksNats === null ? "" : `: ${lacksNats}`}`, () => {
  let server: NatsServer;
  let runs = 0;
  beforeAll(async () => {
    server = await NatsServer.start();
  });
  afterAll(() => server?.stop());

  const place = () => `${server.address}/run-${runs++}`;
  const writer = (at: string, { keep = 2, from = 0, epoch = 0 } = {}) =>
    new CheckpointWriter(openStore(files, at, epoch), { keep, from });
  const paths = async (at: string) => (await openStore(files, at).list()).map(({ path }) => path);

  async function objects(at: string): Promise<string[]> {
    const nats = await connectNats(server.address);
    try {
      return await (await nats.objects(bucketOf(at))).names();
    } finally {
      await nats.close();
    }
  }

  async function withStreams<T>(
    work: (streams: StreamAPI, client: JetStreamClient) => Promise<T>,
  ): Promise<T> {
    const connection = await connect({ servers: server.address });
    try {
      return await work((await jetstreamManager(connection)).streams, jetstream(connection));
    } finally {
      await connection.close();
    }
  }

  const bucketOf = (at: string) => at.split("/").at(-1)!;

  /** As if whoever put an object had been killed in the middle of it. */
  const brokenOff = (at: string) =>
    withStreams((_, client) => client.publish(`$O.${bucketOf(at)}.C.nobody`, new Uint8Array(1000)));

  const chunksOf = (at: string) =>
    withStreams(async (streams) => {
      const bucket = bucketOf(at);
      const { state } = await streams.info(`OBJ_${bucket}`, { subjects_filter: `$O.${bucket}.C.>` });
      return Object.keys(state.subjects ?? {});
    });

  /** As if the server's disk had changed it. */
  const harmed = (at: string, name: string, how: "changed" | "emptied") =>
    withStreams(async (streams, client) => {
      const bucket = bucketOf(at);
      const { nuid } = (await (await new Objm(client).open(bucket)).info(name))!;
      const chunks = `$O.${bucket}.C.${nuid}`;
      await streams.purge(`OBJ_${bucket}`, { filter: chunks });
      // As many as before.
      if (how === "changed") await client.publish(chunks, new Uint8Array(8));
    });

  test("are kept as many as asked, and come back whole; nothing is left of the others", async () => {
    const at = place();
    await prepareCheckpoint(files, at);
    expect(await hasCheckpoints(files, at)).toBe(false);
    expect(await failure(readCheckpoint(files, at))).toMatchObject({ code: "CHECKPOINT" });
    const own = writer(at);
    for (const step of [2, 4, 10]) await own.write(draft(step));
    expect(await paths(at)).toEqual([`${at}/step-10`, `${at}/step-4`]);
    expect(await objects(at)).toHaveLength(6);
    const found = await readCheckpoint(files, at);
    expect(found).toMatchObject({ step: 10, seed: 7 });
    expect(found.parameters.get("w")).toEqual(Tensor.f32([2, 2], [1, 2, 3, 10]));
    expect(found.optimizer.get("m.w")).toEqual(Tensor.f32([2, 2], [10, 0, 0, 1]));
    expect((await readCheckpoint(files, `${at}/step-4`)).step).toBe(4);
    // One of the same step is there until the other one is.
    await own.write(draft(10));
    expect(await paths(at)).toEqual([`${at}/step-10`, `${at}/step-4`]);
  });

  test("one that is not complete is none, and the next one leaves nothing of it", async () => {
    const at = place();
    await writer(at).write(draft(1));
    const store = openStore(files, at);
    await store.begin(2);
    await store.write("model.safetensors", [new Uint8Array(300_000)]);
    await brokenOff(at);
    expect(await paths(at)).toEqual([`${at}/step-1`]);
    expect((await readCheckpoint(files, at)).step).toBe(1);
    await writer(at, { keep: 1, from: 1 }).write(draft(3));
    expect(await paths(at)).toEqual([`${at}/step-3`]);
    expect(await objects(at)).toHaveLength(3);
    expect(await chunksOf(at)).toHaveLength(3);
  });

  test("one with a changed or a missing file is damaged: the one before it is used, and that is said", async () => {
    for (const harm of ["replaced", "removed", "changed", "emptied"]) {
      const at = place();
      const own = writer(at);
      for (const step of [4, 8]) await own.write(draft(step));
      const nats = await connectNats(server.address);
      const bucket = await nats.objects(bucketOf(at));
      const name = (await bucket.names()).find((each) => /^step-8\..*model\.safetensors$/.test(each))!;
      if (harm === "changed" || harm === "emptied") await harmed(at, name, harm);
      else if (harm === "replaced") await bucket.put(name, [new Uint8Array(40)]);
      else await bucket.remove(name);
      await nats.close();
      const told: Damage[] = [];
      expect((await readCheckpoint(files, at, (damage) => told.push(damage))).step).toBe(4);
      expect(told).toMatchObject([{ path: `${at}/step-8`, used: `${at}/step-4` }]);
    }
  });

  test("whoever leads no more changes nothing: neither completes one nor removes another's", async () => {
    const at = place();
    const before = writer(at, { epoch: 3 });
    await before.write(draft(5));
    const store = openStore(files, at, 3);
    await store.begin(6);
    await store.write("model.safetensors", [new Uint8Array(10)]);
    // Another one leads from here on, also before it has written any.
    await openStore(files, at, 8).prepare();
    const refused = [
      failure(store.complete("state.json", new Uint8Array(1))),
      failure(store.remove(`${at}/step-5`)),
      failure(before.write(draft(6))),
    ];
    for (const error of await Promise.all(refused)) expect(error).toMatchObject({ code: "DEPOSED" });
    expect(await paths(at)).toEqual([`${at}/step-5`]);
    expect((await readCheckpoint(files, at)).step).toBe(5);
    await writer(at, { epoch: 8, from: 5 }).write(draft(7));
    expect(await paths(at)).toEqual([`${at}/step-7`, `${at}/step-5`]);
  });
});
