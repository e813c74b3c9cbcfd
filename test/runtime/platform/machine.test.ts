import { expect, test } from "bun:test";
import { machine, machineId, machineKind } from "../../../runtime/platform/machine.ts";

test("another process of the machine has the same identity", async () => {
  const module = `${import.meta.dir}/../../../runtime/platform/machine.ts`;
  const script = `import { machineId } from ${JSON.stringify(module)}; console.log(machineId());`;
  const child = Bun.spawn([process.execPath, "-e", script], { stdout: "pipe" });
  const told = (await new Response(child.stdout).text()).trim();
  await child.exited;
  expect(machineId()).not.toBe("");
  expect(told).toBe(machineId());
  expect(machine().pid).toBe(process.pid);
});

test("what kind of machine it is, as far as the system says", () => {
  const { model, system } = machineKind();
  expect(system).toBe(process.platform);
  expect(model).not.toBe("");
});
