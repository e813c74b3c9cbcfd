/**
 * What a run is promised whatever happens to it: the same result wherever its stages live, one error that names the
 * device that was lost, and devices that hold nothing afterwards.
 */

import { describe, expect, test } from "bun:test";
import { weightsSha256 } from "../../../actors/checkpoint.ts";
import { Device } from "../../../actors/device.ts";
import { workersOf } from "../../../actors/scheduler/plan.ts";
import type { ModelProfile } from "../../../nn/profile.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { motley } from "../../nn/motley.ts";
import { failure } from "../../runtime/world.ts";
import { type Cluster, type ClusterOptions, makeCluster } from "../cluster.ts";
import { closedBehindTests } from "../clusters.ts";

const clusters = closedBehindTests();

async function cluster(options: ClusterOptions): Promise<Cluster> {
  const made = await makeCluster(options);
  clusters.push(made);
  return made;
}

async function deployed(options: ClusterOptions): Promise<Cluster> {
  const made = await cluster(options);
  await made.scheduler.ask.plan();
  await made.scheduler.ask.deploy(made.initial);
  return made;
}

const hash = (state: Readonly<Record<string, any>>) => weightsSha256(new Map(Object.entries(state)));

/** Two steps and a validation in between; everything they come to. */
async function outcome({ scheduler }: Cluster) {
  const first = await scheduler.ask.step(0, 1);
  const validation = await scheduler.ask.evaluate(1);
  const second = await scheduler.ask.step(1, 1);
  const losses = [first, second].map(({ loss, gradNorm }) => [loss, gradNorm]);
  return { losses, validation, state: hash(await scheduler.ask.state()) };
}

describe("devices on one node", () => {
  test.each(["1f1b", "gpipe"])("compute what one device computes: %s", async (schedule) => {
    const alone = await outcome(await deployed({ devices: 1 }));
    const scheduling = { schedule };
    expect(await outcome(await deployed({ devices: 3, together: true, scheduling }))).toEqual(alone);
    expect(await outcome(await deployed({ devices: 3, scheduling }))).toEqual(alone);
  });

  test("also when each computes in a thread of its own", async () => {
    const alone = await outcome(await deployed({ devices: 1, engine: "native" }));
    const together = await deployed({ devices: 3, engine: "native", together: true });
    expect(await outcome(together)).toEqual(alone);
  });
});

describe("a model with frozen values, statistics, dropout and tied parameters", () => {
  test.each(["reference", "native"] as const)(
    "has the same bits on 1, 3 and 6 devices: %s",
    async (engine) => {
      const model = motley();
      const alone = await deployed({ devices: 1, model, engine });
      const expected = await outcome(alone);
      const { embedding, head, mean } = await alone.scheduler.ask.state();
      expect(head!.bytes).toEqual(embedding!.bytes);
      expect(mean!.f32().some((value) => value !== 0)).toBe(true);
      for (const devices of [3, 6]) {
        const apart = await deployed({ devices, model, engine, together: devices === 6 });
        expect(await outcome(apart), `${devices}`).toEqual(expected);
      }
    },
  );

  test("has them when it recomputes, all or within a budget", async () => {
    const model = motley();
    const expected = await outcome(await deployed({ devices: 1, model }));
    for (const stashBytes of [0, 600]) {
      const scheduling = { recompute: true, stashBytes };
      expect(await outcome(await deployed({ devices: 3, model, scheduling }))).toEqual(expected);
    }
  });

  test("whose first layers are frozen sends no gradients to them", async () => {
    const model = motley({ freeze: ["embedding", "w0"] });
    const expected = await outcome(await deployed({ devices: 1, model }));
    const apart = await deployed({ devices: 6, model });
    expect(await outcome(apart)).toEqual(expected);
    const { reports } = await apart.scheduler.ask.step(2, 2);
    const kinds = reports.map(({ spans }) => new Set(spans.map(({ op }) => op)));
    expect(kinds.map((ops) => ops.has("backward") || ops.has("forward-backward"))).toEqual([
      ...[false, false],
      ...[true, true, true, true],
    ]);
    expect(kinds.map((ops) => ops.has("send-gradient"))).toEqual([false, false, false, true, true, true]);
  });

  test("is not updated by a gradient that is no number, which is named", async () => {
    const model = motley();
    const { scheduler, initial } = await cluster({ devices: 3, model });
    await scheduler.ask.plan();
    const values = { ...initial, w2: Tensor.f32([6, 6], new Float32Array(36).fill(Number.NaN)) };
    await scheduler.ask.deploy(values);
    const before = hash(await scheduler.ask.state());
    const { code, message } = await failure(scheduler.ask.step(0, 0));
    expect([code, message]).toEqual([
      "DIVERGED",
      "the loss of step 1 is NaN: nothing has been updated yet, look for infinite or missing numbers in the weights and the data",
    ]);
    expect(hash(await scheduler.ask.state())).toBe(before);
  });
});

test("devices with different engines train one model together", async () => {
  const alone = await outcome(await deployed({ devices: 1 }));
  const mixed = await outcome(await deployed({ devices: 3, engine: ["native", "web", "reference"] }));
  for (const [step, [loss, gradNorm]] of mixed.losses.entries()) {
    expect(Math.abs(loss! / alone.losses[step]![0]! - 1)).toBeLessThan(1e-5);
    expect(Math.abs(gradNorm! / alone.losses[step]![1]! - 1)).toBeLessThan(1e-4);
  }
  expect(Math.abs(mixed.validation / alone.validation - 1)).toBeLessThan(1e-5);
});

test("a device's tensors take the same memory after every step", async () => {
  const { scheduler } = await deployed({ devices: 2 });
  const bytes: number[][] = [];
  for (let step = 0; step < 5; step++) {
    await scheduler.ask.step(step, 4);
    await scheduler.ask.evaluate(step);
    bytes.push((await scheduler.ask.usage()).map((used) => used!.tensorBytes));
  }
  expect(bytes[0]![0]).toBeGreaterThan(0);
  expect(bytes).toEqual(new Array(5).fill(bytes[0]));
});

/** A device that measures itself as so many times slower than it is. */
const slower = (factor: number) =>
  class extends Device {
    override async profile(...args: Parameters<Device["profile"]>): Promise<ModelProfile> {
      const measured = await super.profile(...args);
      const times = {
        ...{ forwardMs: 1000 * factor, backwardMs: 2000 * factor },
        ...{ jointMs: 3000 * factor, stepMs: factor },
      };
      return { ...measured, segments: measured.segments.map((segment) => ({ ...segment, ...times })) };
    }
  };

test("the planner may make neighbours of any two devices", async () => {
  const factors = [1, 1000, 1];
  const { scheduler } = await cluster({
    ...{ devices: 3, apart: true, classOf: (i) => slower(factors[i]!) },
    scheduling: { strategy: "auto" },
  });
  const plan = await scheduler.ask.plan();
  const { devices } = plan;
  expect(workersOf(plan).map(({ member }) => member.device)).toEqual(["0", "2"]);
  expect(devices[1]!.used).toBe(false);
});

describe("a device that is lost", () => {
  async function expectLoss(work: Promise<unknown>): Promise<void> {
    const { code, message } = await failure(work);
    expect(code).toBe("DEVICE_LOST");
    expect(message).toMatch(/^device-1 is gone: /);
  }

  test("while it is measured", async () => {
    class Mortal extends Device {
      override profile(): Promise<ModelProfile> {
        void this.context.node.kill(this.context.self);
        return new Promise(() => {});
      }
    }
    const { scheduler } = await cluster({
      ...{ devices: 3, apart: true, classOf: (i) => (i === 1 ? Mortal : Device) },
    });
    await expectLoss(scheduler.ask.plan());
  });

  test("before it is given its stage", async () => {
    const { scheduler, hosts, initial } = await cluster({ devices: 3 });
    await scheduler.ask.plan();
    await hosts[1]!.kill((await hosts[1]!.lookup(hosts[1]!.id, "device-1"))!);
    await expectLoss(scheduler.ask.deploy(initial));
  });

  test.each(["step", "evaluate", "state"] as const)(
    "during %s, and in all that is asked afterwards",
    async (what) => {
      const { scheduler, hosts } = await deployed({ devices: 3 });
      const work = {
        step: () => scheduler.ask.step(0, 1),
        evaluate: () => scheduler.ask.evaluate(0),
        state: () => scheduler.ask.state(),
      };
      const device = (await hosts[1]!.lookup<Device>(hosts[1]!.id, "device-1"))!;
      const failing = expectLoss(work[what]());
      await hosts[1]!.kill(device);
      await failing;
      await expectLoss(scheduler.ask.evaluate(0));
      // Whoever is left can still be asked.
      expect((await scheduler.ask.usage()).map((used) => used !== null)).toEqual([true, false, true]);
    },
  );

  test("takes its node with it, and leaves the others with nothing", async () => {
    const { coordinator, scheduler, hosts, devices } = await deployed({ devices: 3 });
    await scheduler.ask.step(0, 1);
    const failing = expectLoss(scheduler.ask.step(1, 1));
    await hosts[1]!.close();
    await failing;
    await coordinator.stop(scheduler);
    for (const device of [devices[0]!, devices[2]!]) {
      // The end of a run is told to devices as a signal.
      while ((await device.ask.usage()).tensorBytes > 0) await Bun.sleep(1);
    }
  });
});

test("a stage that cannot be made is the error of the deployment, not a loss, and leaves nothing", async () => {
  class Refusing extends Device {
    override async host(): Promise<never> {
      throw new Error("no room");
    }
  }
  const { coordinator, scheduler, devices, initial } = await cluster({
    devices: 2,
    classOf: (i) => (i === 1 ? Refusing : Device),
  });
  await scheduler.ask.plan();
  const { message } = await failure(scheduler.ask.deploy(initial));
  expect(message).toBe("device-1 cannot run its part of stage 2: no room");
  await coordinator.stop(scheduler);
  while ((await devices[0]!.ask.usage()).tensorBytes > 0) await Bun.sleep(1);
});
