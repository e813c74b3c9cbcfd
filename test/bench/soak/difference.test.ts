/** In what two runs have come to something else. */

import { expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { writeCheckpoint } from "../../../actors/checkpoint.ts";
import { differenceOf } from "../../../bench/soak/difference.ts";
import { Tensor } from "../../../protocols/tensor.ts";
import { files } from "../../../runtime/platform/files.ts";

test("parameters that differ are named, and by how much they do", async () => {
  const folder = mkdtempSync(join(tmpdir(), "troupe-difference-"));
  try {
    const write = async (name: string, a: number[], b: number[]) => {
      const parameters = new Map([
        ["a", Tensor.f32([2], a)],
        ["b", Tensor.f32([1], b)],
      ]);
      const rest = { step: 3, seed: 1, model: {}, training: {}, optimizer: new Map<string, Tensor>() };
      const place = join(folder, name);
      await writeCheckpoint(files, place, { ...rest, parameters }, null);
      return place;
    };
    const spared = await write("spared", [1, 2], [3]);
    expect(await differenceOf(await write("same", [1, 2], [3]), spared)).toStartWith("0 of 2 parameters");
    expect(await differenceOf(await write("other", [1, 2.5], [3]), spared)).toBe(
      "1 of 2 parameters differ, by 0.50 at most: a",
    );
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
