/**
 * The processes of a testbed's devices: started, joined by the coordinator, watched, ended. How one is started (in which
 * namespace, under which limits) is a command that the kinds of testbed put together.
 */

import type { Device } from "../../actors/device.ts";
import { DEVICE_NAME } from "../../cli/node.ts";
import { TOKEN_VARIABLE } from "../../cli/security.ts";
import { createToken, NodeRuntime, type Ref, systemRandom, tcp } from "../../runtime/index.ts";
import { type Child, startChild } from "../../runtime/platform/children.ts";
import { TestbedError } from "./error.ts";

const PATIENCE_MS = 5000;
const START_MS = 60_000;
/** A process that died is known to have a moment after its connections. */
const GRACE_MS = 500;

export interface JoinedProcess {
  readonly name: string;
  readonly pid: number;
  readonly address: string;
  readonly ref: Ref<Device>;
}

export class Processes {
  readonly node: NodeRuntime;
  private readonly token = createToken(systemRandom);
  private readonly children: { readonly name: string; readonly child: Child }[] = [];
  /** What a device's end is told as: by name and how it ended. */
  private readonly explain: (index: number, how: string) => TestbedError;
  private readonly lost = Promise.withResolvers<never>();
  private closing = false;

  constructor(explain: (index: number, how: string) => TestbedError) {
    this.explain = explain;
    this.lost.promise.catch(() => {});
    this.node = new NodeRuntime({
      name: "coordinator",
      transports: [tcp({ plaintext: "everywhere" })],
      token: this.token,
      log: () => {},
    });
  }

  /** Starts one; its first line says where it listens, as that of `troupe node --json`. @throws TestbedError. */
  async start(name: string, command: readonly [string, ...string[]]): Promise<JoinedProcess> {
    const index = this.children.length;
    const listening = Promise.withResolvers<string>();
    let said: string | undefined;
    const child = startChild({
      command,
      environment: { [TOKEN_VARIABLE]: this.token },
      onOutput: (line) => listening.resolve(JSON.parse(line).address),
      onError: (line) => {
        said = line;
      },
    });
    this.children.push({ name, child });
    child.ended.then((how) => {
      const error = this.explain(index, said === undefined ? how : `${how}: ${said}`);
      listening.reject(error);
      if (!this.closing) this.lost.reject(error);
    });
    const timer = setTimeout(
      () => listening.reject(new TestbedError(`${name} did not start within ${START_MS / 1000} s`)),
      START_MS,
    );
    const address = await listening.promise.finally(() => clearTimeout(timer));
    const peer = await this.node.connect(address);
    const ref = await this.node.lookup<Device>(peer.id, DEVICE_NAME);
    if (!ref) throw new TestbedError(`${name} has no device`);
    return { name, pid: child.pid, address, ref };
  }

  /** Runs `work`, but no longer than all devices live; the end of one explains what it made fail. */
  async guard<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await Promise.race([work(), this.lost.promise]);
    } catch (error) {
      await Promise.race([this.lost.promise, Bun.sleep(GRACE_MS)]);
      throw error;
    }
  }

  async close(): Promise<void> {
    this.closing = true;
    await Promise.all([...this.children.map(({ child }) => child.end(PATIENCE_MS)), this.node.close()]);
  }
}
