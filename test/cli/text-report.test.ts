/** What people read of devices that come, are slow, and are broken on purpose. */

import { expect, test } from "bun:test";
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

test("a device is told to be slow once, and again when it is another matter", () => {
  const { report, lines } = reader();
  const figures = { old_step_ms: 50, new_step_ms: 50, plan_ms: 4 };
  const drift = (factor: number) => {
    report.show({ event: "device_drifted", device: "phone", factor });
    report.show({ event: "plan_kept", cause: "drifted", why: "the present plan is the best", ...figures });
  };
  const kept = "  the plan stays as it is: the present plan is the best";
  for (const factor of [1.5, 2, 1.2, 2.9]) drift(factor);
  expect(lines()).toEqual(["  phone takes 1.5 times as long as it was measured to", kept]);
  drift(3);
  expect(lines()).toEqual(["  phone takes 3.0 times as long as it was measured to", kept]);
  drift(1.5);
  expect(lines()).toHaveLength(2);
  report.show({ event: "plan_kept", cause: "joined", why: "it is small", ...figures });
  expect(lines()).toEqual(["  the plan stays as it is: it is small"]);

  const model = gptModel({ layers: 2, width: 8, heads: 2, context: 8, vocabulary: 256 }, 2);
  const plan = planOf(model, { microBatches: 4, stages: [{ to: [6] }] });
  const move = { moved_bytes: 1, move_ms: 1, plan, ...figures };
  report.show({ event: "replanned", cause: "drifted", why: "it is better", ...move });
  lines();
  // Of the plan that it is now.
  drift(1.5);
  expect(lines()).toHaveLength(2);
});
