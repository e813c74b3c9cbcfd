/** A NATS server with JetStream, of the system's packages: on a free port of this machine, with a folder of its own. */

import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** Where Debian has it. */
const program = Bun.which("nats-server", { PATH: `${process.env.PATH}:/usr/sbin` });

/** Why there is none; null where there is. */
export const lacksNats = program === null ? "nats-server is not installed" : null;

export class NatsServer {
  readonly address: string;
  private readonly folder: string;
  private readonly process: Bun.Subprocess;

  private constructor(address: string, folder: string, process: Bun.Subprocess) {
    this.address = address;
    this.folder = folder;
    this.process = process;
  }

  /** Resolves when it answers. @param options further ones; `-js` when left out. */
  static async start(options: readonly string[] = ["-js"]): Promise<NatsServer> {
    const folder = mkdtempSync(join(tmpdir(), "troupe-nats-"));
    const where = ["-a", "127.0.0.1", "-p", "-1", "-sd", join(folder, "store"), "--ports_file_dir", folder];
    const server = Bun.spawn([program!, ...where, ...options], { stdout: "ignore", stderr: "ignore" });
    for (;;) {
      const file = readdirSync(folder).find((name) => name.endsWith(".ports"));
      const text = file === undefined ? "" : readFileSync(join(folder, file), "utf8");
      if (text.endsWith("}")) {
        return new NatsServer((JSON.parse(text).nats as string[])[0]!, folder, server);
      }
      if (server.exitCode !== null) throw new Error(`nats-server ended with ${server.exitCode}`);
      await Bun.sleep(5);
    }
  }

  async stop(): Promise<void> {
    this.process.kill("SIGKILL");
    await this.process.exited;
    rmSync(this.folder, { recursive: true, force: true });
  }
}
