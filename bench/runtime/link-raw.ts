/**
 * Raw TCP between two processes through Bun's sockets, doing what any program on them has to: an echo, small messages
 * that are counted, and bytes that are put together in one buffer at the far end. `bun link-raw.ts` is the near end;
 * the far end is a child of it, `bun link-raw.ts far`.
 */

import { LineChild } from "../child.ts";
import { contend, each } from "./contender.ts";
import { PAYLOAD_BYTES, ROUND_TRIPS, SMALL_BURST, SMALL_BYTES, TENSOR_BYTES, TENSORS } from "./sizes.ts";

type Socket = Bun.Socket<undefined>;

/** One byte says what comes; the far end answers when it has all of it. */
const MODES = { echo: 1, small: 2, tensor: 3 } as const;
const LENGTHS: Readonly<Record<number, number>> = {
  [MODES.echo]: PAYLOAD_BYTES,
  [MODES.small]: SMALL_BURST * SMALL_BYTES,
  [MODES.tensor]: TENSOR_BYTES,
};

async function far(): Promise<void> {
  const buffer = new Uint8Array(TENSOR_BYTES);
  let mode = 0;
  let received = 0;
  const server = Bun.listen<undefined>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket, bytes) {
        let from = 0;
        if (mode === 0) {
          mode = bytes[0]!;
          received = 0;
          from = 1;
        }
        buffer.set(from === 0 ? bytes : bytes.subarray(from), received);
        received += bytes.byteLength - from;
        if (received < LENGTHS[mode]!) return;
        socket.write(mode === MODES.echo ? buffer.subarray(0, PAYLOAD_BYTES) : buffer.subarray(0, 1));
        mode = 0;
      },
    },
  });
  process.stdout.write(`${server.port}\n`);
  for await (const _ of console);
  server.stop(true);
}

async function near(): Promise<void> {
  const child = await LineChild.start({ command: [process.execPath, import.meta.path, "far"] });
  let awaited = 0;
  let answered: () => void = () => undefined;
  let drained: () => void = () => undefined;
  const socket: Socket = await Bun.connect<undefined>({
    hostname: "127.0.0.1",
    port: Number(child.greeting),
    socket: {
      data(_, bytes) {
        awaited -= bytes.byteLength;
        if (awaited === 0) answered();
      },
      drain: () => drained(),
    },
  });
  const send = async (bytes: Uint8Array) => {
    for (let at = 0; ; ) {
      at += Math.max(0, socket.write(at === 0 ? bytes : bytes.subarray(at)));
      if (at === bytes.byteLength) return;
      await new Promise<void>((resolve) => {
        drained = resolve;
      });
    }
  };
  const answer = (length: number) =>
    new Promise<void>((resolve) => {
      awaited = length;
      answered = resolve;
    });
  const payload = new Uint8Array(1 + PAYLOAD_BYTES).fill(MODES.echo, 0, 1);
  const small = new Uint8Array(SMALL_BYTES).fill(9);
  const tensor = new Uint8Array(1 + TENSOR_BYTES).fill(MODES.tensor, 0, 1);

  await contend({
    ask: async () => {
      const times: number[] = [];
      for (let i = 0; i < ROUND_TRIPS; i++) {
        const begun = Bun.nanoseconds();
        const answering = answer(PAYLOAD_BYTES);
        await send(payload);
        await answering;
        times.push(Bun.nanoseconds() - begun);
      }
      return times;
    },
    /** A write for each message, as a program without a framing of its own does. */
    small: async () => [
      await each(SMALL_BURST, async () => {
        const answering = answer(1);
        await send(Uint8Array.of(MODES.small));
        for (let i = 0; i < SMALL_BURST; i++) {
          const accepted = socket.write(small);
          if (accepted < SMALL_BYTES) await send(small.subarray(Math.max(0, accepted)));
        }
        await answering;
      }),
    ],
    tensor: async () => {
      const times: number[] = [];
      for (let i = 0; i < TENSORS; i++) {
        times.push(
          await each(TENSOR_BYTES, async () => {
            const answering = answer(1);
            await send(tensor);
            await answering;
          }),
        );
      }
      return times;
    },
  });
  socket.end();
  await child.close();
}

if (process.argv[2] === "far") await far();
else await near();
