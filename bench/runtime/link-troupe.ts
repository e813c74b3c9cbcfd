/**
 * Troupe between two processes: `bun link-troupe.ts <address to listen on>`. The far end is a child of this process
 * and ends with it.
 */

import { Tensor } from "../../protocols/index.ts";
import { NodeRuntime } from "../../runtime/index.ts";
import { LineChild } from "../child.ts";
import { quantile } from "../statistics.ts";
import { contend, each } from "./contender.ts";
import { Sink, transports } from "./link-actors.ts";
import {
  CHANNEL_BYTES,
  LARGE_BYTES,
  PAYLOAD_BYTES,
  ROUND_TRIPS,
  SMALL_BURST,
  TENSOR_BYTES,
  TENSORS,
} from "./sizes.ts";

const address = process.argv[2] ?? "tcp://127.0.0.1:0";
const hub = new NodeRuntime({ name: "hub", transports: transports() });
const meeting = address.startsWith("webrtc:") ? [await hub.listen("tcp://127.0.0.1:0")] : [];
const far = await LineChild.start({
  command: [process.execPath, `${import.meta.dir}/link-actors.ts`, address, ...meeting],
});
const node = new NodeRuntime({ name: "near", actors: { Sink }, transports: transports() });
for (const at of meeting) await node.connect(at);
const peer = await node.connect(far.greeting);
const sink = await node.spawnOn<Sink>(peer.id, "Sink", []);
const other = await node.spawnOn<Sink>(peer.id, "Sink", []);

const payload = new Uint8Array(PAYLOAD_BYTES).fill(7);
const filled = (bytes: number) => new Tensor("u8", [bytes], new Uint8Array(bytes).fill(3));
const bytes = meeting.length > 0 ? CHANNEL_BYTES : TENSOR_BYTES;
const tensor = filled(bytes);
let large: Tensor | undefined;
let lastControl: readonly number[] = [];

await contend({
  ask: async () => {
    const times: number[] = [];
    for (let i = 0; i < ROUND_TRIPS; i++) {
      const begun = Bun.nanoseconds();
      if ((await sink.ask.echo(payload)).byteLength !== PAYLOAD_BYTES) throw new Error("a wrong answer");
      times.push(Bun.nanoseconds() - begun);
    }
    return times;
  },
  small: async () => {
    const before = await sink.ask.count();
    const nanoseconds = await each(SMALL_BURST, async () => {
      for (let i = 0; i < SMALL_BURST; i++) sink.tell.add(1);
      if ((await sink.ask.count()) !== before + SMALL_BURST) throw new Error("messages are missing");
    });
    return [nanoseconds];
  },
  tensor: async () => {
    const times: number[] = [];
    for (let i = 0; i < TENSORS; i++) {
      times.push(
        await each(bytes, async () => {
          if ((await sink.ask.take(tensor)) !== 3) throw new Error("a wrong tensor");
        }),
      );
    }
    return times;
  },
  /** How long a message without tensors to another actor, and its answer, take while a tensor is on its way. */
  control: async () => {
    large ??= filled(LARGE_BYTES);
    const times: number[] = [];
    const sent = sink.ask.take(large);
    let under = true;
    void sent.then(() => {
      under = false;
    });
    do {
      const begun = Bun.nanoseconds();
      await other.ask.count();
      times.push(Bun.nanoseconds() - begun);
      await Bun.sleep(3);
    } while (under);
    await sent;
    lastControl = times;
    return times;
  },
  /** The same messages: nine of ten were faster. */
  control90: async () => [quantile(lastControl, 0.9)],
});
await node.close();
await hub.close();
await far.close();
