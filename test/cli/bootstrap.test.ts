import { afterAll, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/**
 * A repository of its own around the real script. Its only dependency is a "bun" in a local folder, so nothing is
 * downloaded: a shell script, as large as a binary must be, that says it is the pinned one and calls this Bun.
 */
let root: string;
const modules = () => join(root, "node_modules");

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), "troupe-bootstrap-"));
  mkdirSync(join(root, "cli"));
  mkdirSync(join(root, "pinned", "bin"), { recursive: true });
  cpSync(join(import.meta.dir, "../../cli/bootstrap.ts"), join(root, "cli", "bootstrap.ts"));
  const pinned = `#!/bin/sh\nPINNED=yes exec "${process.execPath}" "$@"\n#${"x".repeat(1_000_000)}\n`;
  writeFileSync(join(root, "pinned", "bin", "bun.exe"), pinned, { mode: 0o755 });
  writeFileSync(join(root, "pinned", "package.json"), JSON.stringify({ name: "bun", version: "0.0.1" }));
  writeFileSync(
    join(root, "package.json"),
    JSON.stringify({ name: "fixture", type: "module", devDependencies: { bun: "file:./pinned" } }),
  );
  writeFileSync(
    join(root, "cli", "main.ts"),
    `const [job, ...args] = process.argv.slice(2);
     if (job === "exit") process.exit(Number(args[0]));
     if (job === "wait") {
       process.on("SIGTERM", () => process.exit(7));
       setInterval(() => {}, 1000);
     }
     console.log(JSON.stringify({ job, args, pinned: process.env.PINNED }));`,
  );
  const install = Bun.spawn([process.execPath, "install"], { cwd: root, stdout: "ignore", stderr: "ignore" });
  expect(await install.exited).toBe(0);
});

afterAll(() => rmSync(root, { recursive: true, force: true }));
beforeEach(() => rmSync(modules(), { recursive: true, force: true }));

function start(...args: string[]) {
  return Bun.spawn([process.execPath, join(root, "cli", "bootstrap.ts"), ...args], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
}

async function bootstrap(...args: string[]) {
  const child = start(...args);
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { out, err, code };
}

const INSTALLING = "troupe: installing dependencies, once\n";

describe.skipIf(process.platform === "win32")("npx bun run <job>", () => {
  test("installs what is missing, once, and runs the job with the pinned Bun", async () => {
    const first = await bootstrap("train", "--json", "two words");
    expect(first).toEqual({
      out: '{"job":"train","args":["--json","two words"],"pinned":"yes"}\n',
      err: INSTALLING,
      code: 0,
    });
    expect(await bootstrap("train", "--json", "two words")).toEqual({ ...first, err: "" });
  });

  test("first runs at the same time install one after the other", async () => {
    const runs = await Promise.all([bootstrap("a"), bootstrap("b"), bootstrap("c")]);
    expect(runs.map(({ code }) => code)).toEqual([0, 0, 0]);
    expect(runs.map(({ err }) => err).join("")).toBe(INSTALLING);
  });

  test("takes over from an install that died", async () => {
    const dead = Bun.spawn([process.execPath, "-e", ""]);
    await dead.exited;
    mkdirSync(modules());
    writeFileSync(join(modules(), ".troupe-installing"), `${dead.pid}`);
    expect(await bootstrap("a")).toMatchObject({ err: INSTALLING, code: 0 });
    expect(existsSync(join(modules(), ".troupe-installing"))).toBe(false);
  });

  test("installs again when the lock file has changed", async () => {
    await bootstrap("a");
    writeFileSync(join(modules(), ".troupe-installed"), "of another time");
    expect(await bootstrap("a")).toMatchObject({ err: INSTALLING, code: 0 });
  });

  test("passes the exit code on", async () => {
    expect((await bootstrap("exit", "3")).code).toBe(3);
  });

  test("passes signals on", async () => {
    const child = start("wait");
    // The job says its name when it is ready for the signal.
    const reader = child.stdout.getReader();
    await reader.read();
    child.kill("SIGTERM");
    expect(await child.exited).toBe(7);
    await reader.cancel();
  });

  test("a job ends with whoever started its bootstrap", async () => {
    const command = [process.execPath, join(root, "cli", "bootstrap.ts"), "wait"];
    const shell = Bun.spawn(["sh", "-c", '"$0" "$@" & wait', ...command], {
      ...{ stdin: "ignore", stdout: "pipe", stderr: "ignore" },
    });
    const reader = shell.stdout.getReader();
    await reader.read();
    shell.kill("SIGKILL");
    // Both have it open until they end.
    while (!(await reader.read()).done);
  });

  test("says in one line why it cannot install", async () => {
    const lock = join(root, "bun.lock");
    const text = await Bun.file(lock).text();
    writeFileSync(lock, "{");
    const { out, err, code } = await bootstrap("a");
    writeFileSync(lock, text);
    expect({ out, code }).toEqual({ out: "", code: 1 });
    expect(err).toMatch(
      /^troupe: installing[^\n]*\ntroupe: could not install the dependencies with Bun [^\n]+\n$/,
    );
  });
});

test.skipIf(process.platform === "win32")("a command ends when its bootstrap is killed", async () => {
  const root = join(import.meta.dir, "../..");
  const command = ["cli/bootstrap.ts", "node", "--json", "--listen", "tcp://127.0.0.1:0"];
  const child = Bun.spawn([process.execPath, ...command], {
    ...{ cwd: root, stdin: "ignore", stdout: "pipe", stderr: "ignore" },
  });
  const reader = child.stdout.getReader();
  const { event } = JSON.parse(new TextDecoder().decode((await reader.read()).value));
  expect(event).toBe("listening");
  child.kill("SIGKILL");
  while (!(await reader.read()).done);
});
