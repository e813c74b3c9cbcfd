/** A plan that another coordinator made, for the devices that are there now. */

import { expect, test } from "bun:test";
import { planFor } from "../../../actors/journal/reattach.ts";
import { gptModel } from "../../../nn/models/gpt.ts";
import { planOf } from "../plans.ts";

const model = gptModel({ layers: 2, width: 8, heads: 2, context: 8, vocabulary: 256 }, 2);
const device = (id: string, name: string) => ({ id, name, used: true, reason: "" });
const place = (id: string, name: string, port: number) => ({ id, name, address: `tcp://127.0.0.1:${port}` });

/** A pipeline of device-1 and of device-2 in its second life. */
function history() {
  const plan = planOf(model, { microBatches: 4, stages: [{ to: [3] }, { to: [6] }] });
  const ids = ["0", "2"];
  const stages = plan.stages.map((stage, i) => ({
    ...stage,
    members: stage.members.map((member) => ({ ...member, device: ids[i]! })),
  }));
  const devices = [
    device("0", "device-1"),
    { ...device("1", "device-2"), used: false },
    device("2", "device-2"),
  ];
  const places = [place("0", "device-1", 1), place("1", "device-2", 2), place("2", "device-2", 3)];
  return { plan: { ...plan, stages, devices }, generation: 1, devices: places };
}

const members = ({ stages }: ReturnType<typeof planFor>) =>
  stages.map(({ members: [first] }) => first!.device);

test("a device that had come back is the one that is there, and once", () => {
  const now = [place("0", "device-1", 11), place("1", "device-2", 12)];
  const plan = planFor(history(), now);
  expect(members(plan)).toEqual(["0", "1"]);
  expect(plan.devices.map(({ id, name }) => [id, name])).toEqual([
    ["0", "device-1"],
    ["1", "device-2"],
  ]);
});

test("who is known by an address is not taken for another of the same name, and who is gone is nobody", () => {
  const plan = planFor(history(), [place("0", "device-2", 2), place("1", "device-2", 3)]);
  expect(members(plan)).toEqual(["gone-0", "1"]);
  expect(plan.devices.map(({ id }) => id)).toEqual(["gone-0", "0", "1"]);
});
