/** The bench as a command: what it prints, and that it leaves nothing behind. */

import { expect, test } from "bun:test";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const MAIN = join(import.meta.dir, "../../bench/main.ts");

async function bench(...args: string[]) {
  const folder = mkdtempSync(join(tmpdir(), "troupe-test-"));
  const child = Bun.spawn([process.execPath, MAIN, ...args], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
    env: { ...process.env, TMPDIR: folder },
  });
  try {
    const texts = [new Response(child.stdout).text(), new Response(child.stderr).text()];
    const [out, err] = await Promise.all(texts);
    return { code: await child.exited, out: out!, err: err!, left: readdirSync(folder) };
  } finally {
    child.kill();
    rmSync(folder, { recursive: true });
  }
}

test("an unknown suite or part is one line and exit code 2", async () => {
  const [suite, part] = await Promise.all([bench("trian"), bench("train", "--only", "sped")]);
  expect(suite).toMatchObject({
    code: 2,
    out: "",
    err: 'bench: there is no suite "trian"; the nearest is train\n',
  });
  expect(part).toMatchObject({ code: 2, out: "" });
  expect(part.err).toBe("bench: --only sped is not a part; there is speed, time, pipeline, memory\n");
});

test("a suite prints its figures as one JSON object and removes what it wrote", async () => {
  const { code, out, left } = await bench(
    ...["train", "--quick", "--only", "time", "--rounds", "1", "--steps", "2", "--json"],
  );
  expect(code).toBe(0);
  const { suite, command, account, operators } = JSON.parse(out);
  expect([suite, command.split(" ").slice(0, 5).join(" ")]).toEqual(["train", "npx bun run bench train"]);
  expect(account.map(({ name }: { name: string }) => name)).toContain("kernels: optimiser");
  expect(operators.find(({ op }: { op: string }) => op === "Gemm").ms).toBeGreaterThan(0);
  // ONNX Runtime leaves files of its own.
  expect(left.filter((name) => name.startsWith("troupe"))).toEqual([]);
}, 180_000);

test("the runtime is measured beside rivals, each of which did its work", async () => {
  const { code, out, left } = await bench("runtime", "--quick", "--only", "worker", "--json");
  expect(code).toBe(0);
  const { worker } = JSON.parse(out);
  for (const name of ["Troupe", "raw postMessage"]) {
    expect(worker[name].hop).toBeGreaterThan(0);
    expect(worker[name].ask).toBeGreaterThan(0);
  }
  expect(left.filter((name) => name.startsWith("troupe"))).toEqual([]);
}, 180_000);
