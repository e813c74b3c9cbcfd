/** What devices of a run are called: by names that are theirs alone, while they are there. */

import { afterEach, expect, test } from "bun:test";
import { Devices, type JoinedDevice, type Opening } from "../../cli/devices.ts";
import { DEVICE_NAME } from "../../cli/node.ts";
import type { TrainSettings } from "../../cli/train-options.ts";
import { Actor, heartbeatOf, NodeRuntime, type Ref, systemClock, tcp } from "../../runtime/index.ts";

/** As much of a device as a run asks of it before it is used. */
class Fake extends Actor {
  name: string;
  answers = true;

  constructor(name: string) {
    super();
    this.name = name;
  }

  called(name: string): void {
    this.name = name;
  }

  async describe(): Promise<string> {
    if (!this.answers) await new Promise(() => {});
    return this.name;
  }

  hush(): void {
    this.answers = false;
  }
}

let opened: { close(): Promise<void> }[] = [];
afterEach(async () => {
  for (const each of opened.toReversed()) await each.close();
  opened = [];
});

async function node(name: string): Promise<{ node: NodeRuntime; address: string; device: Ref<Fake> }> {
  const own = new NodeRuntime({ name, transports: [tcp()] });
  opened.push(own);
  const device = await own.spawn(Fake, [name], { name: DEVICE_NAME });
  return { node: own, address: await own.listen("tcp://127.0.0.1:0"), device };
}

/** A run's devices, of which these are there in the beginning; more may come to it. */
async function run(join: readonly string[], opening: Partial<Opening> = {}) {
  const settings = {
    ...{ join, listen: "tcp://127.0.0.1:0", transport: "tcp", heartbeat: heartbeatOf(10_000) },
    security: { insecure: false },
  } as unknown as TrainSettings;
  const came: JoinedDevice[] = [];
  const gone: string[] = [];
  let address = "";
  let arrival = Promise.withResolvers<void>();
  const devices = new Devices(settings, {
    listening: (at) => {
      address = at;
    },
    joined: (device) => {
      came.push(device);
      arrival.resolve();
      arrival = Promise.withResolvers();
    },
    left: (name) => {
      gone.push(name);
      arrival.resolve();
      arrival = Promise.withResolvers();
    },
    said: () => {},
  });
  opened.push(devices);
  await devices.open({ devices: 0, ...opening });
  const until = async (holds: () => boolean) => {
    while (!holds()) await arrival.promise;
  };
  return { devices, address, until, came, gone, names: () => came.map(({ name }) => name) };
}

test("of two of the same name the second is called otherwise, by the run and by itself", async () => {
  const nodes = await Promise.all([node("pi"), node("pi"), node("desk")]);
  const { devices, names } = await run(nodes.map(({ address }) => address));
  expect(names().toSorted()).toEqual(["desk", "pi", "pi-2"]);
  for (const { device } of nodes) {
    const own = (await device.ask.describe()) as string;
    expect(await devices.find(own)!.ref.ask.describe()).toBe(own as never);
  }
});

test("one that comes back has its name again, also before the loss of the one that was is known", async () => {
  const first = await node("pi");
  const { address, until, names, gone } = await run([first.address]);
  // It is there by all that is known, and does not answer.
  await first.device.ask.hush();
  const again = await node("pi");
  await again.node.connect(address);
  await systemClock.sleep(30);
  expect(names()).toEqual(["pi"]);
  void first.node.kill(first.device);
  await until(() => names().length === 2 && gone.length === 1);
  expect([names(), gone]).toEqual([["pi", "pi"], ["pi"]]);
  await again.node.close();
  await until(() => gone.length === 2);
  const last = await node("pi");
  await last.node.connect(address);
  await until(() => names().length === 3);
  expect(names()).toEqual(["pi", "pi", "pi"]);
});

test("who was in the run before and is not there is told of by name, and nobody who was not named", async () => {
  const pi = await node("pi");
  const [away, guest] = await Promise.all([node("desk"), node("guest")]);
  for (const { node: own } of [away, guest]) await own.close();
  const known = [away, guest, pi].map(({ address }, i) => ({ name: ["n2", "n3", "pi"][i]!, address }));
  const stranger = await node("stranger");
  await stranger.node.close();
  const { names, gone } = await run([pi.address, away.address, stranger.address], { lacks: true, known });
  expect(names()).toEqual(["pi"]);
  expect(gone).toEqual(["n2", stranger.address]);
});

test("who leaves a run that is over is not told of, nor who is let go at its end", async () => {
  const [first, second] = await Promise.all([node("pi"), node("desk")]);
  const { devices, gone, until } = await run([first.address, second.address]);
  await first.node.close();
  await until(() => gone.length > 0);
  await devices.over();
  const down = Promise.withResolvers<void>();
  devices.node.monitor(devices.find("desk")!.ref, () => down.resolve());
  await second.node.close();
  await down.promise;
  await devices.toldLosses();
  expect(gone).toEqual(["pi"]);
});
