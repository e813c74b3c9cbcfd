import { expect, test } from "bun:test";
import { classOfMachine, DEVICE_CLASSES } from "../../../actors/scheduler/device-classes.ts";

test("classes are plausible: busy draws more than idle, and nothing is missing", () => {
  for (const { gflops, memoryGBps, memoryBytes, power } of Object.values(DEVICE_CLASSES)) {
    expect(power.busyWatts).toBeGreaterThan(power.idleWatts);
    expect(Math.min(gflops, memoryGBps, memoryBytes, ...Object.values(power))).toBeGreaterThan(0);
  }
});

test.each([
  ["Raspberry Pi 4 Model B Rev 1.4", "raspberry-pi-4"],
  ["Raspberry Pi 400 Rev 1.0", "raspberry-pi-4"],
  ["Raspberry Pi Compute Module 5 Rev 1.0", "raspberry-pi-5"],
  ["NVIDIA Jetson Nano Developer Kit", "jetson-nano"],
  ["NVIDIA Orin Nano Developer Kit", "jetson-orin-nano"],
  ["NVIDIA Jetson Xavier NX Developer Kit", "jetson-xavier-nx"],
  ["quill", "desktop"],
] as const)("a board called %s is %s", (model, expected) => {
  expect(classOfMachine({ model, portable: false, system: "linux" }, "native")).toBe(expected);
});

test("other machines are told apart by how they are built and what they train with", () => {
  const other = { model: "20XW004AGE", portable: false, system: "linux" };
  expect(classOfMachine(other, "webgpu")).toBe("desktop-gpu");
  expect(classOfMachine({ ...other, portable: true }, "webgpu")).toBe("laptop");
  expect(classOfMachine({ ...other, portable: true, system: "android" }, "native")).toBe("phone");
});
