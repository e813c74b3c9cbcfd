/** The room that copies take: of gradients too where they are made of those, as long as there is as much. */

import { expect, test } from "bun:test";
import { copyRoom, OWN_COPIES, REPLICA_COPIES } from "../../../actors/recovery/room.ts";
import { workersOf } from "../../../actors/scheduler/plan.ts";
import { handPlan, PIPELINE, SHARED_BY_DATA } from "./runs.ts";

const SIZE = { bytes: 300, gradientBytes: 100 };
const WHOLE = OWN_COPIES * SIZE.bytes + REPLICA_COPIES * SIZE.bytes;

function room(freeBytes: number, size: { bytes: number; gradientBytes: number | null } = SIZE) {
  const workers = workersOf(handPlan({ stages: PIPELINE }));
  const sizes = workers.map(() => size);
  const devices = workers.map(({ member }) => ({ id: member.device, host: member.device, freeBytes }));
  const { bytes, full, follows, placement } = copyRoom(workers, sizes, 1, devices);
  return { bytes: [...bytes.values()], full, follows, short: placement.short };
}

test("gradients are counted: of three steps where they come from, of one where copies are made of them", () => {
  const bytes = WHOLE + 3 * 100 + 100;
  expect(room(bytes)).toEqual({ bytes: [bytes, bytes, bytes], full: [], follows: true, short: [] });
});

test("where there is no room for them, copies are whole, and where they cannot be made of them", () => {
  const whole = { bytes: [WHOLE, WHOLE, WHOLE], full: [], follows: false, short: [] };
  expect(room(WHOLE + 399)).toEqual(whole);
  expect(room(WHOLE)).toEqual(whole);
  expect(room(1e6, { ...SIZE, gradientBytes: null })).toEqual(whole);
});

test("whoever gives nobody copies keeps no gradients for that", () => {
  const workers = workersOf(handPlan(SHARED_BY_DATA));
  const devices = workers.map(({ member }) => ({ id: member.device, host: member.device, freeBytes: 1e6 }));
  const { bytes, placement } = copyRoom(
    workers,
    workers.map(() => SIZE),
    1,
    devices,
  );
  // The two who share a stage are each other's copies; the third gives one of them its own.
  const [keeper] = placement.replicas[2]!;
  const own = OWN_COPIES * SIZE.bytes;
  expect(bytes.get(workers[2]!.member.device)).toBe(own + 300);
  expect(bytes.get(keeper!)).toBe(own + REPLICA_COPIES * SIZE.bytes + 100);
  const other = workers.slice(0, 2).find(({ member }) => member.device !== keeper)!;
  expect(bytes.get(other.member.device)).toBe(own);
});
