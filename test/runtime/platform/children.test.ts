import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { startChild } from "../../../runtime/platform/children.ts";

/** Starts a script under this Bun and collects its lines. */
function start(script: string, environment: Record<string, string> = {}) {
  const [out, err]: [string[], string[]] = [[], []];
  const said = Promise.withResolvers<void>();
  const child = startChild({
    command: [process.execPath, "-e", script],
    environment,
    onOutput: (line) => {
      out.push(line);
      said.resolve();
    },
    onError: (line) => err.push(line),
  });
  return { child, out, err, said: said.promise };
}

/** A process that has ended but whose new parent has not noticed counts as gone; Linux can tell. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return process.platform !== "linux" || !/^\d+ \(.*\) Z/.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}

test("hands on lines, also the last one without an end, and how it ended", async () => {
  const { child, out, err } = start(
    "console.log(process.env.WORD); console.error('a\\nb'); process.stdout.write('rest'); process.exitCode = 3;",
    { WORD: "given" },
  );
  expect(await child.ended).toBe("exit code 3");
  expect(out).toEqual(["given", "rest"]);
  expect(err).toEqual(["a", "b"]);
});

test("one that heeds the end of its input ends by itself", async () => {
  const { child, said } = start(
    "process.stdin.on('end', () => process.exit(0)).resume(); console.log('up');",
  );
  await said;
  await child.end(60_000);
  expect(await child.ended).toBe("exit code 0");
});

test("one that does not is killed", async () => {
  const { child, said } = start("console.log('up'); setInterval(() => {}, 1000);");
  await said;
  await Promise.all([child.end(20), child.end(20)]);
  expect(await child.ended).toBe("SIGKILL");
  expect(isAlive(child.pid)).toBe(false);
});

test("a command that is not there counts as ended", async () => {
  const child = startChild({
    command: ["/nowhere/at-all"],
    environment: {},
    onOutput: () => {},
    onError: () => {},
  });
  expect(await child.ended).toContain("ENOENT");
  await child.end(20);
});

test("none outlives a parent that exits", async () => {
  const module = new URL("../../../runtime/platform/children.ts", import.meta.url).href;
  const parent = start(`
    const { startChild } = await import(${JSON.stringify(module)});
    const child = startChild({
      command: [process.execPath, "-e", "console.log('up'); setInterval(() => {}, 1000)"],
      environment: {},
      onOutput: () => { console.log(child.pid); process.exit(0); },
      onError: () => {},
    });
  `);
  await parent.child.ended;
  const pid = Number(parent.out[0]);
  expect(pid).toBeGreaterThan(0);
  while (isAlive(pid)) await Bun.sleep(10);
});
