/**
 * Plans of several members, carried out: what is lost or cannot be done is named and nobody waits for ever; what reports
 * say of the time is all of it; members that train on their own become one when they meet.
 */

import { describe, expect, test } from "bun:test";
import { Device } from "../../../actors/device.ts";
import type { StageSpec } from "../../../actors/stage/spec.ts";
import { type Engine, EngineError } from "../../../nn/engine/engine.ts";
import { createReferenceEngine } from "../../../nn/engine/reference/reference.ts";
import { gptModel } from "../../../nn/models/gpt.ts";
import type { SgdConfig } from "../../../nn/optim/sgd.ts";
import { byteLength, type Tensor } from "../../../protocols/tensor.ts";
import { systemClock } from "../../../runtime/clock.ts";
import type { Ref } from "../../../runtime/index.ts";
import { failure } from "../../runtime/world.ts";
import { type ClusterOptions, makeCluster } from "../cluster.ts";
import { closedBehindTests } from "../clusters.ts";
import { type HandPlan, type HandStage, planOf } from "../plans.ts";

const GPT = { layers: 1, width: 8, heads: 2, context: 8, vocabulary: 256 };
const MICRO_BATCHES = 4;
const DATA: HandStage = {
  to: [2, 4],
  sharing: "data",
  members: [
    [0, 3],
    [1, 2],
  ],
};
const TENSOR: HandStage = { to: [4], sharing: "tensor", members: 2 };

const clusters = closedBehindTests();

async function planned(hand: Omit<HandPlan, "microBatches">, options: Partial<ClusterOptions> = {}) {
  const model = gptModel(GPT, 2);
  const plan = planOf(model, { microBatches: MICRO_BATCHES, ...hand });
  const scheduling = { plan, ...options.scheduling };
  const made = await makeCluster({ devices: plan.devices.length, model, ...options, scheduling });
  clusters.push(made);
  await made.scheduler.ask.plan();
  return made;
}

async function deployed(...args: Parameters<typeof planned>) {
  const made = await planned(...args);
  await made.scheduler.ask.deploy(made.initial);
  return made;
}

describe.each([
  ["data", { stages: [DATA] }],
  ["tensor", { stages: [TENSOR] }],
  ["a pipeline of both", { stages: [{ ...DATA, to: [1, 2] }, TENSOR] }],
])("a member that is lost: %s", (_, plan) => {
  test("in a step: the device is named, and the others hold nothing afterwards", async () => {
    const { coordinator, scheduler, hosts, devices } = await deployed(plan);
    await scheduler.ask.step(0, 2);
    const failing = failure(scheduler.ask.step(1, 2));
    await hosts[1]!.close();
    const { code, message } = await failing;
    expect(code).toBe("DEVICE_LOST");
    expect(message).toMatch(/^device-1 is gone: /);
    await coordinator.stop(scheduler);
    for (const [i, device] of devices.entries()) {
      while (i !== 1 && (await device.ask.usage()).tensorBytes > 0) await Bun.sleep(1);
    }
  });

  test("in validation", async () => {
    const { scheduler, hosts } = await deployed(plan);
    const failing = failure(scheduler.ask.evaluate(0));
    await hosts[1]!.kill((await hosts[1]!.lookup<Device>(hosts[1]!.id, "device-1"))!);
    expect((await failing).message).toMatch(/^device-1 is gone: /);
  });
});

describe("steps that follow each other directly", () => {
  const hand = { stages: [{ ...DATA, to: [1, 2] }, TENSOR] };

  test("begin behind the commit, and are the same: what is asked in between finds weights as the step left them", async () => {
    const [direct, apart] = [await deployed(hand), await deployed(hand)];
    for (let step = 0; step < 3; step++) {
      const asked = systemClock.now();
      const one = await direct.scheduler.ask.step(step, 3, true);
      const other = await apart.scheduler.ask.step(step, 3);
      expect([one.loss, one.gradNorm]).toEqual([other.loss, other.gradNorm]);
      for (const { spans } of one.reports) expect(spans[0]!.start < asked).toBe(step > 0);
      expect(await direct.scheduler.ask.evaluate(step)).toBe(await apart.scheduler.ask.evaluate(step));
      expect(await direct.scheduler.ask.state()).toEqual(await apart.scheduler.ask.state());
    }
  });

  test("do not begin behind one that has diverged", async () => {
    const { scheduler, initial } = await planned(hand);
    const broken = initial["h0.attn.q.weight"]!;
    broken.f32()[0] = Number.NaN;
    await scheduler.ask.deploy(initial);
    expect((await failure(scheduler.ask.step(0, 3, true))).code).toBe("DIVERGED");
  });

  test("a step begun that is not the one asked for counts for nothing", async () => {
    const [direct, apart] = [await deployed(hand), await deployed(hand)];
    for (const { scheduler } of [direct, apart])
      await scheduler.ask.step(0, 9, scheduler === direct.scheduler);
    for (const { scheduler } of [direct, apart]) await scheduler.ask.step(5, 9);
    expect(await direct.scheduler.ask.state()).toEqual(await apart.scheduler.ask.state());
  });

  test("a member that is lost in a step that nobody has asked for yet is named in the next", async () => {
    const { scheduler, hosts } = await deployed(hand);
    await scheduler.ask.step(0, 3, true);
    await hosts[1]!.close();
    expect((await failure(scheduler.ask.step(1, 3))).message).toMatch(/^device-1 is gone: /);
  });
});

/** An engine that has room for so many bytes. */
function small(bytes: number): () => Promise<Engine> {
  return async () => {
    const engine = createReferenceEngine();
    const allocate = engine.allocate.bind(engine);
    return Object.assign(engine, {
      allocate: (...args: Parameters<Engine["allocate"]>) => {
        if (engine.usage().tensorBytes + byteLength(args[0], args[1]) <= bytes) return allocate(...args);
        throw new EngineError(`no memory for ${args[0]}[${args[1]}]: use a smaller model or more devices`);
      },
    });
  };
}

test.each([
  ["data", DATA],
  ["tensor", TENSOR],
])("a member without room is named, and the others hold nothing afterwards: %s", async (_, stage) => {
  class Small extends Device {
    constructor(name: string) {
      super(name, small(40_000));
    }
  }
  const { coordinator, scheduler, devices, initial } = await planned(
    { stages: [stage] },
    { classOf: (i) => (i === 1 ? Small : Device) as typeof Device },
  );
  const { code, message } = await failure(scheduler.ask.deploy(initial));
  expect(code).toBe("DEVICE_FAILED");
  expect(message).toMatch(/^device-1 cannot run its part of stage 1: no memory for f32/);
  await coordinator.stop(scheduler);
  for (const device of devices) while ((await device.ask.usage()).tensorBytes > 0) await Bun.sleep(1);
});

test("a member that fails in the middle of a step fails the step", async () => {
  class Failing extends Device {
    constructor(name: string) {
      super(name, async () => {
        const engine = createReferenceEngine();
        const compile = engine.compile.bind(engine);
        let runs = 0;
        return Object.assign(engine, {
          compile: async (...args: Parameters<Engine["compile"]>) => {
            const executable = await compile(...args);
            const bind = executable.bind.bind(executable);
            return Object.assign(executable, {
              bind: (...tensors: Parameters<typeof bind>) => {
                const binding = bind(...tensors);
                const run = binding.run.bind(binding);
                return Object.assign(binding, {
                  run: async () => {
                    if (runs++ === 3) throw new EngineError("out of memory in MatMul");
                    return run();
                  },
                });
              },
            });
          },
        });
      });
    }
  }
  for (const stage of [DATA, TENSOR]) {
    const { scheduler } = await deployed(
      { stages: [stage] },
      { classOf: (i) => (i === 1 ? Failing : Device) as typeof Device },
    );
    const { code, message } = await failure(scheduler.ask.step(0, 1));
    expect(code).toBe("DEVICE_FAILED");
    expect(message).toBe("device-1 cannot run its part of stage 1: out of memory in MatMul");
  }
});

test("wants as much time to be explained as a step took", async () => {
  for (const stages of [[DATA], [TENSOR], [{ ...DATA, to: [1, 3] }, { to: [2, 4] }]] as HandStage[][]) {
    const schedule = stages.length > 1 ? "interleaved" : "1f1b";
    const { scheduler } = await deployed({ stages, schedule });
    await scheduler.ask.step(0, 2);
    const { reports } = await scheduler.ask.step(1, 2);
    for (const { kernelMs, copyMs, waitMs, reduceMs, totalMs, spans } of reports) {
      for (const part of [kernelMs, copyMs, waitMs, reduceMs]) expect(part).toBeGreaterThanOrEqual(0);
      expect(kernelMs + copyMs + waitMs + reduceMs).toBeLessThanOrEqual(totalMs + 1e-6);
      for (const { start, end } of spans) expect(end).toBeGreaterThanOrEqual(start);
    }
    const kinds = reports.map(({ spans }) => spans.map(({ op }) => op));
    const isDealt = stages[0] !== TENSOR;
    const [reduced] = reports[0]!.spans.filter(({ op }) => op === "reduce");
    const last = reports[0]!.spans.findLast(({ op }) => op === "backward");
    // In the background: the last backward pass of the chunk before it is still to come.
    if (isDealt) expect(reduced!.start).toBeLessThan(last!.end);
    expect(kinds[0]!.filter((op) => op === "reduce").length).toBe(isDealt ? 2 : 0);
    expect(kinds[0]!.filter((op) => op === "update").length).toBe(2);
    await scheduler.ask.step(2, 2);
  }
});

test("asynchronous updates are in the timeline, one for each micro-batch", async () => {
  const { scheduler } = await deployed({ stages: [{ to: [2] }, { to: [4] }], schedule: "pipedream" });
  const { reports, gradNorm } = await scheduler.ask.step(0, 0);
  expect(gradNorm).toBeGreaterThan(0);
  for (const { spans } of reports) {
    const updates = spans.filter(({ op }) => op === "update").map(({ microBatch }) => microBatch);
    expect(updates).toEqual([0, 1, 2, 3]);
  }
});

describe("members that train on their own", () => {
  const LOCAL: HandStage = { to: [2, 4], sharing: "local", members: [[0, 1, 3], [2]] };
  /** What each of the stages has, by the way of the devices that started them. */
  class Watched extends Device {
    override async host(spec: StageSpec, owner: Ref<any>) {
      const stage = await super.host(spec, owner);
      watched.push(stage);
      return stage;
    }
  }
  let watched: Ref<any>[] = [];
  const weights = async () => {
    const found = await Promise.all(watched.map((stage) => stage.ask.state()));
    return found.map((state: Record<string, Tensor>) => [...state["h0.attn.q.weight"]!.f32()]);
  };

  test("have weights of their own between meetings, the same after one, and the mean is what a checkpoint has", async () => {
    watched = [];
    const { scheduler } = await deployed(
      { stages: [LOCAL], localSteps: 2 },
      { together: true, classOf: () => Watched },
    );
    await scheduler.ask.step(0, 3);
    const [one, other] = await weights();
    expect(one).not.toEqual(other);
    const state = (await scheduler.ask.state())["h0.attn.q.weight"]!.f32();
    const mean = one!.map((value, i) => Math.fround(0.75 * value + 0.25 * other![i]!));
    expect([...state]).toEqual(mean);
    await scheduler.ask.step(1, 3);
    const [met, alike] = await weights();
    expect(met).toEqual(alike!);
    expect(met).not.toEqual(one);
    await scheduler.ask.step(2, 2);
    const [last, all] = await weights();
    expect(last).toEqual(all!);
  });

  test("go on from a checkpoint with the momentum that their meetings have", async () => {
    const optimizer: SgdConfig = {
      ...{ kind: "sgd", momentum: 0, nesterov: false, learningRate: 0.1, weightDecay: 0, clip: 1 },
      ...{ warmup: 0, floor: 1, steps: 10 },
    };
    const start = () => planned({ stages: [LOCAL], localSteps: 2 }, { scheduling: { optimizer } });
    const whole = await start();
    await whole.scheduler.ask.deploy(whole.initial);
    let halfway: Record<string, Tensor> = {};
    for (let step = 0; step < 4; step++) {
      await whole.scheduler.ask.step(step, 3);
      if (step === 1) halfway = await whole.scheduler.ask.state();
    }
    const rest = await start();
    await rest.scheduler.ask.deploy({ ...rest.initial, ...halfway });
    for (let step = 2; step < 4; step++) await rest.scheduler.ask.step(step, 3);
    expect(await rest.scheduler.ask.state()).toEqual(await whole.scheduler.ask.state());
    expect(Object.keys(halfway)).toContain("outer.h0.attn.q.weight");
  });
});

describe("codecs", () => {
  const codecs = (activations: string | null, gradients: string | null) => ({ activations, gradients });

  test.each([
    ["activations between stages", { stages: [{ to: [2] }, { to: [4] }] }, codecs("f16", null)],
    ["gradients between members", { stages: [DATA] }, codecs(null, "int8")],
  ])("make what travels coarser, and the result with it: %s", async (_, plan, codecs) => {
    const losses: number[][] = [];
    for (const coded of [{}, { codecs }]) {
      const { scheduler } = await deployed({ ...plan, ...coded });
      const results = [await scheduler.ask.step(0, 1), await scheduler.ask.step(1, 1)];
      losses.push(results.map(({ loss }) => loss));
    }
    const [exact, coarse] = losses as [number[], number[]];
    expect(coarse).not.toEqual(exact);
    for (const [step, loss] of coarse.entries()) {
      expect(Math.abs(loss / exact[step]! - 1)).toBeLessThan(1e-2);
    }
  });
});
