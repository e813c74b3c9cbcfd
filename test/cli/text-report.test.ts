/** What people read of devices that come, are given other work, and are broken on purpose. */

import { expect, test } from "bun:test";
import type { Plan } from "../../actors/scheduler/plan.ts";
import { StrategyNews } from "../../cli/strategy-news.ts";
import { textReport } from "../../cli/text-report.ts";
import { gptModel } from "../../nn/models/gpt.ts";
import { planOf } from "../actors/plans.ts";

function reader() {
  let said = "";
  const output = { terminal: false, colours: false, columns: () => 80, write: () => {} };
  const write = (text: string) => {
    said += text;
  };
  const report = textReport(output, { ...output, write }, { steps: 10, out: "runs/1" });
  const lines = () => {
    const all = said.split("\n").slice(0, -1);
    said = "";
    return all;
  };
  return { report, lines };
}

test("where devices may come to, and what they are to be told", () => {
  const { report, lines } = reader();
  const at = (address: string) => report.show({ event: "listening", address, protection: "encrypted" });
  at("tcp://0.0.0.0:4000");
  at("tcp://127.0.0.1:4000");
  report.show({ event: "paused", reason: "no device has come yet" });
  report.show({ event: "fault", fault: "kill device-2 at step 9 for 5s" });
  expect(lines()).toEqual([
    "  takes in devices at tcp://0.0.0.0:4000, encrypted; on each of them:",
    "    npx bun run node --join tcp://<this machine>:4000",
    "  takes in devices at tcp://127.0.0.1:4000, encrypted; on each of them:",
    "    npx bun run node --join tcp://127.0.0.1:4000",
    "  waits for a device: no device has come yet",
    "  chaos: kill device-2 at step 9 for 5s",
  ]);
});

test("another plan says what goes from whom to whom", () => {
  const { report, lines } = reader();
  const model = gptModel({ layers: 2, width: 8, heads: 2, context: 8, vocabulary: 256 }, 2);
  const plan = (...ends: readonly number[]) =>
    planOf(model, { microBatches: 4, stages: ends.map((to) => ({ to: [to] })) });
  const of = { parameters: 1, frozen_bytes: 0, unit: "tokens", data: "text", data_bytes: 1 };
  report.show({ event: "plan", plan: plan(2, 4, 6), ...of });
  report.show({ event: "device_drifted", device: "device-1", factor: 1.5 });
  lines();
  const figures = { old_step_ms: 50, new_step_ms: 40, plan_ms: 4 };
  const move = { prepared_ms: 0, moved_bytes: 1, move_ms: 1, ...figures };
  const replanned = (next: Plan) =>
    report.show({ event: "replanned", cause: "drifted", why: "it is better", plan: next, ...move });
  replanned(plan(1, 5, 6));
  expect(lines()).toEqual([
    "  another plan: it is better",
    "  segment 1 from device-0 to device-1, segment 4 from device-2 to device-1: 1 B moved in 1 ms",
    "  now hybrid of 3 stages on 3 devices, 1f1b: device-0 stage 1, device-1 stage 2, device-2 stage 3",
  ]);
  replanned(plan(6));
  expect(lines()[1]).toBe(
    "  segments 1-4 from device-1 to device-0, segment 5 from device-2 to device-0: 1 B moved in 1 ms",
  );
  report.show({ event: "plan_kept", cause: "joined", why: "it is small", ...figures });
  expect(lines()).toEqual(["  the plan stays as it is: it is small"]);
});

test("that the plan is of another strategy than was asked for is an event, whenever it is news", () => {
  const model = gptModel({ layers: 2, width: 8, heads: 2, context: 8, vocabulary: 256 }, 2);
  const plan = (strategy: Plan["strategy"], ...ends: readonly number[]): Plan => {
    return { ...planOf(model, { microBatches: 4, stages: ends.map((to) => ({ to: [to] })) }), strategy };
  };
  const [alone, hybrid, pipeline] = [plan("hybrid", 6), plan("hybrid", 3, 6), plan("pipeline", 3, 6)];
  const told = (asked: string | undefined, ...plans: readonly Plan[]) => {
    const news = new StrategyNews(asked);
    return plans.map((each) => news.of(each)?.strategy ?? null);
  };
  expect(told("hybrid", alone, alone, hybrid, alone, pipeline)).toEqual([
    ...["single", null, null, "single", "pipeline"],
  ]);
  expect(told("pipeline", pipeline, alone)).toEqual([null, "single"]);
  for (const asked of [undefined, "auto"]) expect(told(asked, alone, pipeline)).toEqual([null, null]);

  const { report, lines } = reader();
  const event = new StrategyNews("hybrid").of(alone)!;
  expect(event).toMatchObject({ event: "strategy_replaced", asked: "hybrid", strategy: "single" });
  report.show(event);
  expect(lines()).toEqual([
    "  --strategy hybrid was asked for: the best plan that was found for these devices is single device",
  ]);
});
