/**
 * The script behind `npx bun run <job>`: makes sure that what the lock file pins is installed, then runs the job
 * with the pinned Bun. It is not part of Troupe itself: it imports nothing but built-in modules, because it must
 * work before anything is installed and under whatever Bun happened to start it.
 *
 * When all is in place it reads two small files and starts the job. Otherwise it installs first, one process at a
 * time, telling about it on standard error so that a job's standard output stays clean.
 */

import { spawn, spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = dirname(dirname(fileURLToPath(import.meta.url)));
const MODULES = join(ROOT, "node_modules");
/** A copy of the lock file that the packages were installed from; written last, so a broken-off install has none. */
const STAMP = join(MODULES, ".troupe-installed");
const LOCK = join(MODULES, ".troupe-installing");
/** Longer than the slowest install on a single-board computer and a phone's connection. */
const LOCK_PATIENCE_MS = 15 * 60_000;
/** A Bun binary is some 100 MB; what stands in its place before its package's script has run is a text file. */
const SMALLEST_BUN_BYTES = 1_000_000;

class BootstrapError extends Error {}

/** What each job runs, in order; the first that fails ends it. Arguments are those given to the job. */
function commands(job: string | undefined, args: readonly string[]): readonly (readonly string[])[] {
  switch (job) {
    case "test":
      // Many of them wait for processes and timers: three at once use two cores, and are few enough for small machines.
      return [["test", "--timeout", "120000", "--parallel=3", ...args]];
    case "check":
      return [
        [join(MODULES, "typescript", "bin", "tsc"), "-p", ROOT],
        [join(MODULES, "@biomejs", "biome", "bin", "biome"), "check", "--error-on-warnings", ROOT],
      ];
    case "bench":
      return [[join(ROOT, "bench", "main.ts"), ...args]];
    default:
      return [[join(ROOT, "cli", "main.ts"), ...(job === undefined ? [] : [job]), ...args]];
  }
}

function lockFile(): string {
  return readFileSync(join(ROOT, "bun.lock"), "utf8");
}

function installed(): boolean {
  return textOf(STAMP) === lockFile();
}

function textOf(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return undefined;
  }
}

async function install(): Promise<void> {
  mkdirSync(MODULES, { recursive: true });
  await takeLock();
  try {
    if (installed()) return;
    process.stderr.write("troupe: installing dependencies, once\n");
    rmSync(STAMP, { force: true });
    const wanted = lockFile();
    const { status, stdout, stderr, error } = spawnSync(process.execPath, ["install", "--frozen-lockfile"], {
      cwd: ROOT,
      encoding: "utf8",
      stdio: ["ignore", "pipe", "pipe"],
    });
    if (status !== 0) {
      const lines = `${stderr ?? ""}\n${stdout ?? ""}`.split("\n");
      const said = lines
        .find((line) => line.startsWith("error:"))
        ?.slice("error:".length)
        .trim();
      const why = said ?? error?.message ?? `exit code ${status}`;
      throw new BootstrapError(`could not install the dependencies with Bun ${process.versions.bun}: ${why}`);
    }
    writeFileSync(STAMP, wanted);
  } finally {
    rmSync(LOCK, { force: true });
  }
}

/** Waits until this process is the only one that installs. The lock names its holder, so a dead one's is taken over. */
async function takeLock(): Promise<void> {
  const attempts = LOCK_PATIENCE_MS / 100;
  for (let attempt = 0; attempt < attempts; attempt++) {
    if (createExclusively(LOCK)) return;
    if (holderIsDead()) {
      // Under a lock of its own: between seeing a dead holder and removing its lock another may have taken over.
      const takeover = `${LOCK}.takeover`;
      if (createExclusively(takeover)) {
        if (holderIsDead()) rmSync(LOCK, { force: true });
        rmSync(takeover, { force: true });
        continue;
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new BootstrapError(
    `another process has been installing for too long; if there is none, remove ${LOCK}`,
  );
}

/** Creates a file with this process's id in it; false when it exists. */
function createExclusively(path: string): boolean {
  try {
    writeFileSync(path, `${process.pid}`, { flag: "wx" });
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EEXIST") return false;
    throw error;
  }
}

function holderIsDead(): boolean {
  const pid = Number(textOf(LOCK));
  // Empty: created this instant, its holder is about to write its id.
  if (!Number.isInteger(pid) || pid <= 0) return false;
  try {
    process.kill(pid, 0);
    return false;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === "ESRCH";
  }
}

/** The Bun that package.json pins: as installed, or from its platform package, or this one if it is the same. */
function pinnedBun(): string {
  const version: string = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")).devDependencies.bun;
  if (process.versions.bun === version) return process.execPath;
  const platform = process.platform === "win32" ? "windows" : process.platform;
  const arch = process.arch === "arm64" ? "aarch64" : process.arch;
  const suffix = process.platform === "win32" ? ".exe" : "";
  const candidates = [
    join(MODULES, "bun", "bin", "bun.exe"),
    join(MODULES, "@oven", `bun-${platform}-${arch}`, "bin", `bun${suffix}`),
    join(MODULES, "@oven", `bun-${platform}-${arch}-musl`, "bin", `bun${suffix}`),
  ];
  const found = candidates.find(
    (path) => (statSync(path, { throwIfNoEntry: false })?.size ?? 0) > SMALLEST_BUN_BYTES,
  );
  if (found) return found;
  throw new BootstrapError(
    `Bun ${version} is not installed for ${process.platform} ${process.arch}, this is Bun ${process.versions.bun}: ` +
      `remove node_modules and run again`,
  );
}

/** How often is looked whether whoever started this is there. */
const LOOK_MS = 1000;

/**
 * Runs to the end, as if it were this process: same terminal, same signals, same exit code. It is told who started it, so that
 * it can see when that is killed; and when whoever started this one is, it is told as it would be by a terminal that closes.
 */
function run(bun: string, args: readonly string[]): Promise<number> {
  return new Promise((resolve, reject) => {
    const cwd = args[0] === "test" ? ROOT : process.cwd();
    const env = { ...process.env, TROUPE_STARTED_BY: `${process.pid}` };
    const child = spawn(bun, args, { stdio: "inherit", cwd, env });
    const parent = process.ppid;
    const watch = setInterval(() => {
      if (process.ppid === parent) return;
      clearInterval(watch);
      child.kill("SIGHUP");
    }, LOOK_MS);
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
      process.on(signal, async () => {
        // Ctrl-C at a terminal reaches the whole group: sent on, it would arrive twice. Imported here because
        // it takes longer to load than all the rest.
        const { isatty } = await import("node:tty");
        if (signal === "SIGINT" && isatty(0)) return;
        child.kill(signal);
      });
    }
    child.on("error", reject);
    child.on("exit", (code, signal) => {
      clearInterval(watch);
      resolve(code ?? 128 + (signal ? constants.signals[signal] : 0));
    });
  });
}

async function main(): Promise<number> {
  const [job, ...args] = process.argv.slice(2);
  if (!installed()) await install();
  const bun = pinnedBun();
  for (const command of commands(job, args)) {
    const code = await run(bun, command);
    if (code !== 0) return code;
  }
  return 0;
}

try {
  process.exit(await main());
} catch (error) {
  if (!(error instanceof BootstrapError)) throw error;
  process.stderr.write(`troupe: ${error.message}\n`);
  process.exit(1);
}
