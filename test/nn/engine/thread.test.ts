import { expect, test } from "bun:test";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { availableEngines, createEngine } from "../../../nn/engine/create.ts";
import { KERNEL_THREAD } from "../../../nn/engine/native/thread.ts";
import { trainTiny } from "./tiny.ts";

const available = (await availableEngines()).some(({ name }) => name === "native");
const skip = !available || !existsSync("/proc/thread-self");

const named = () =>
  readdirSync("/proc/self/task").filter((thread) => {
    try {
      return readFileSync(`/proc/self/task/${thread}/comm`, "utf8").trim() === KERNEL_THREAD;
    } catch {
      return false; // It has ended meanwhile.
    }
  });

test.skipIf(skip)("the thread that computes is found by its name", async () => {
  const before = named();
  const engine = await createEngine({ engine: "native" });
  try {
    await trainTiny(engine, 1);
    expect(named().filter((thread) => !before.includes(thread))).toHaveLength(1);
  } finally {
    await engine.close();
  }
});
