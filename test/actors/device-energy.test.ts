import { expect, test } from "bun:test";
import { Device } from "../../actors/device.ts";
import { NodeRuntime } from "../../runtime/index.ts";

test("a device says what it has used, measured or modelled, and which of the two", async () => {
  const node = new NodeRuntime({ name: "alone", log: () => {} });
  try {
    const device = await node.spawn(Device, ["device", "reference"]);
    const done = { busyMs: 0, sentBytes: 5e5, receivedBytes: 5e5 };
    expect(await device.ask.readMeter(done)).toBeNull();
    const perByte = { sentJoulesPerByte: 1e-3, receivedJoulesPerByte: 1e-3 };
    const missing = await device.ask.openMeter({ idleWatts: 1, busyWatts: 2, ...perByte });
    // No machine has all of them.
    expect(missing.length).toBeGreaterThan(0);
    for (const { reason } of missing) expect(reason).not.toBe("");
    const reading = (await device.ask.readMeter(done))!;
    expect(reading.measured).toBe(!reading.sources.includes("model"));
    if (!reading.measured) expect(reading.joules).toBeGreaterThan(1000);
    await device.ask.closeMeter();
    expect(await device.ask.readMeter(done)).toBeNull();
  } finally {
    await node.close();
  }
});
