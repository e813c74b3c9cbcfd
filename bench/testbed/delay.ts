/** The delay line of one device's cable: a process that carries its frames, each held until it is due. */

import { type Child, startChild } from "../../runtime/platform/children.ts";
import { TestbedError } from "./error.ts";
import { portName, tapName } from "./names.ts";

const SCRIPT = new URL("./delay-line.ts", import.meta.url).pathname;
const PATIENCE_MS = 2000;

export class DelayLine {
  private readonly child: Child;

  private constructor(child: Child) {
    this.child = child;
  }

  /** Makes the two ends of a device's cable; they go with the process. @throws TestbedError. */
  static async open(owner: number, device: number, latencyMs: number): Promise<DelayLine> {
    const ready = Promise.withResolvers<void>();
    let said = "";
    const child = startChild({
      command: [process.execPath, SCRIPT, portName(owner, device), tapName(owner, device), `${latencyMs}`],
      environment: {},
      onOutput: () => ready.resolve(),
      onError: (line) => {
        said ||= `: ${line}`;
      },
    });
    child.ended.then((how) => ready.reject(new TestbedError(`a delay line ended with ${how}${said}`)));
    await ready.promise;
    return new DelayLine(child);
  }

  close(): Promise<void> {
    return this.child.end(PATIENCE_MS);
  }
}
