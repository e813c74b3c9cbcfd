/**
 * A raw data channel of the same library between two processes, its messages put together in one buffer at the far
 * end. `bun webrtc-raw.ts` is the near end; the far end is a child of it, `bun webrtc-raw.ts far`. They tell each
 * other their descriptions on a line, candidates included.
 */

import { LineChild } from "../child.ts";
import { contend, each } from "./contender.ts";
import { CHANNEL_BYTES, CHANNEL_MESSAGE_BYTES, CHANNEL_TENSORS } from "./sizes.ts";

const { RTCPeerConnection: Connection } = (await import("@roamhq/wrtc")).default as unknown as {
  RTCPeerConnection: typeof RTCPeerConnection;
};
/** What may wait in the library before more is sent; the library never says when it is sent, so one looks again. */
const MOST_BUFFERED = 1024 * 1024;

async function described(connection: RTCPeerConnection): Promise<string> {
  while (connection.iceGatheringState !== "complete") await Bun.sleep(5);
  return JSON.stringify(connection.localDescription);
}

async function far(): Promise<void> {
  const connection = new Connection();
  const buffer = new Uint8Array(CHANNEL_BYTES);
  let received = 0;
  connection.ondatachannel = ({ channel }) => {
    channel.binaryType = "arraybuffer";
    channel.onmessage = ({ data }) => {
      buffer.set(new Uint8Array(data as ArrayBuffer), received);
      received += (data as ArrayBuffer).byteLength;
      if (received < CHANNEL_BYTES) return;
      received = 0;
      channel.send(buffer.slice(0, 1));
    };
  };
  process.stdout.write("ready\n");
  for await (const line of console) {
    if (line === "") continue;
    await connection.setRemoteDescription(JSON.parse(line));
    await connection.setLocalDescription(await connection.createAnswer());
    process.stdout.write(`${await described(connection)}\n`);
  }
  connection.close();
}

async function near(): Promise<void> {
  const child = await LineChild.start({ command: [process.execPath, import.meta.path, "far"] });
  const connection = new Connection();
  const channel = connection.createDataChannel("bench");
  channel.binaryType = "arraybuffer";
  const opened = Promise.withResolvers<void>();
  channel.onopen = () => opened.resolve();
  await connection.setLocalDescription(await connection.createOffer());
  await connection.setRemoteDescription(JSON.parse(await child.ask(await described(connection))));
  await opened.promise;
  const bytes = new Uint8Array(CHANNEL_BYTES).fill(3);

  await contend({
    tensor: async () => {
      const times: number[] = [];
      for (let i = 0; i < CHANNEL_TENSORS; i++) {
        times.push(
          await each(CHANNEL_BYTES, async () => {
            const answered = Promise.withResolvers<void>();
            channel.onmessage = () => answered.resolve();
            for (let at = 0; at < CHANNEL_BYTES; at += CHANNEL_MESSAGE_BYTES) {
              while (channel.bufferedAmount >= MOST_BUFFERED) await Bun.sleep(1);
              channel.send(bytes.subarray(at, at + CHANNEL_MESSAGE_BYTES));
            }
            await answered.promise;
          }),
        );
      }
      return times;
    },
  });
  connection.close();
  await child.close();
}

if (process.argv[2] === "far") await far();
else await near();
