/** The testbed of any machine, and what it is made of. */

import { afterEach, expect, test } from "bun:test";
import { downlink } from "../../../bench/testbed/downlink.ts";
import { GOODPUT } from "../../../bench/testbed/link.ts";
import { paced } from "../../../bench/testbed/paced.ts";
import { REFERENCE_MS } from "../../../bench/testbed/reference-kernel.ts";
import { openTestbed, type Testbed } from "../../../bench/testbed/testbed.ts";
import type { Binding, Engine } from "../../../nn/engine/engine.ts";
import { GraphBuilder } from "../../../nn/onnx/builder.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { VirtualClock } from "../../../runtime/index.ts";
import type { Pipe, PipeHandlers, Transport } from "../../../runtime/transports/transport.ts";

let bed: Testbed | undefined;
afterEach(async () => {
  await bed?.close();
  bed = undefined;
});

test("devices throttle themselves, and tell what they have used", async () => {
  const line = { megabits: 100, latencyMs: 1 };
  const specs = [
    { name: "large", speed: 2, memoryBytes: 64e6, line },
    { name: "small", speed: 1, memoryBytes: 32e6, line },
  ];
  bed = await openTestbed(specs, { kind: "shaped" });
  expect(bed.about.join()).toContain("shaped links and throttled engines");
  const [large, small] = bed.devices;
  expect(large!.share / small!.share).toBeCloseTo(2);
  const described = await Promise.all(bed.devices.map(({ ref }) => ref.ask.describe()));
  expect(described.map(({ host, memoryBytes }) => [host, memoryBytes])).toEqual([
    ["large", 64e6],
    ["small", 32e6],
  ]);

  // No message is faster than its line; a busy machine makes it slower.
  const began = performance.now();
  await large!.ref.ask.take(Tensor.zeros("u8", [1_000_000]));
  expect(performance.now() - began).toBeGreaterThan(8_000_000 / (100e3 * GOODPUT));
  const [used] = await bed.usage();
  expect(used!.receivedBytes).toBeWithin(1_000_000, 1_100_000);
  expect(used!.peakBytes).toBeGreaterThan(20e6);

  const killed = bed.guard(() => {
    process.kill(small!.pid, "SIGKILL");
    return small!.ref.ask.take(Tensor.zeros("u8", [1_000_000]));
  });
  await expect(killed).rejects.toThrow("small ended: SIGKILL");
  await bed.close();
});

/** An engine whose kernels take so many milliseconds of a clock that stands still meanwhile. */
function instantEngine(kernelMs: () => number): Engine {
  const binding: Binding = { run: async () => kernelMs(), release: () => {} };
  const executable = {
    inputs: [],
    outputs: [],
    bind: () => binding,
    profile: async () => [],
    release: () => {},
  };
  return {
    name: "reference",
    allocate: () => {
      throw new Error("not needed here");
    },
    compile: async () => executable,
    usage: () => ({ tensors: 0, tensorBytes: 0, executables: 0, bindings: 0 }),
    close: async () => {},
  };
}

test("a paced engine takes the time of a slower one, run after run, however fast the machine is meanwhile", async () => {
  const clock = new VirtualClock();
  let slowness = 1;
  const reference = { run: async () => 2 * slowness };
  const engine = paced(
    instantEngine(() => 6 * slowness),
    { share: 0.25, clock, reference },
  );
  const kernel = new GraphBuilder("nothing").build();
  const ms = (3 * REFERENCE_MS) / 0.25;
  const ended: [number, number][] = [];
  const start = clock.now();
  // Twice the same graph: one kernel.
  for (const graph of [kernel, structuredClone(kernel)]) {
    const binding = (await engine.compile(graph)).bind({}, {});
    void binding.run().then((took) => ended.push([took, clock.now() - start]));
    slowness = 2;
  }
  await clock.advance(ms - 0.5);
  expect(ended).toEqual([]);
  await clock.advance(ms + 1);
  expect(ended).toEqual([
    [ms, ms],
    [ms, 2 * ms],
  ]);
  expect([engine.busyMs, engine.lateMs]).toEqual([2 * ms, 0]);
  const none = () =>
    paced(
      instantEngine(() => 1),
      { share: 0, clock, reference },
    );
  expect(none).toThrow("a share is above 0 and at most 1, got 0");
});

test("a kernel that this machine runs slower than the emulated device is counted as late", async () => {
  const clock = new VirtualClock();
  const slow: Engine = instantEngine(() => 2);
  const late = {
    ...slow,
    compile: async () => {
      const executable = await slow.compile(new GraphBuilder("late").build());
      const run = async () => {
        await clock.sleep(10 * REFERENCE_MS);
        return 2;
      };
      return { ...executable, bind: () => ({ run, release: () => {} }) };
    },
  };
  const engine = paced(late, { share: 1, clock, reference: { run: async () => 2 } });
  const run = (await engine.compile(new GraphBuilder("late").build())).bind({}, {}).run();
  await clock.advance(20 * REFERENCE_MS);
  expect(await run).toBe(REFERENCE_MS);
  expect(engine.lateMs).toBeCloseTo(9 * REFERENCE_MS);
});

test("what comes to a device shares its line, keeps its order, and is there before the end", async () => {
  const clock = new VirtualClock();
  const heard: [string, number][] = [];
  let receive: PipeHandlers | undefined;
  const inner = {
    scheme: "memory",
    connect: async (_: string, handlers: (pipe: Pipe) => PipeHandlers) => {
      receive = handlers({} as Pipe);
      return {} as Pipe;
    },
  } as unknown as Transport;
  const start = clock.now();
  const slow = downlink(inner, { clock, bytesPerSecond: 1_000_000, latencyMs: 5 });
  await slow.connect("memory://x", () => ({
    onData: (bytes) => heard.push([`${bytes.byteLength} bytes`, clock.now() - start]),
    onDrain: () => {},
    onClose: () => heard.push(["closed", clock.now() - start]),
  }));
  receive!.onData(new Uint8Array(1500));
  receive!.onData(new Uint8Array(500));
  receive!.onClose();
  await clock.advance(100);
  expect(heard).toEqual([
    ["1500 bytes", 6.5],
    ["500 bytes", 7],
    ["closed", 7],
  ]);
});
