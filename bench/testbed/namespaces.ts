/**
 * The testbed of Linux: every device is a `troupe node` in its own network namespace, under its own host name and memory
 * limit, with its kernels' thread, and nothing else of it, throttled by quota: so it answers heartbeats as fast as ever.
 *
 * All kernels' threads are kept on one processor, with all quotas together below the whole of it, so that no device
 * computes the slower because another does; everything else of the devices is kept off that processor where there is
 * another one. The groups outweigh other work on this machine.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { parseSchedstat } from "../processes.ts";
import { type Calibrated, calibrate } from "./calibrate.ts";
import { makeGroup, memoryKills, ownGroup, quotaOf, setMemoryLimit, setQuota } from "./cgroup.ts";
import { cleanUp } from "./cleanup.ts";
import { DelayLine } from "./delay.ts";
import { DeviceMemoryError, TestbedError } from "./error.ts";
import { takeMachine } from "./machine.ts";
import { groupName } from "./names.ts";
import { addressOf, CONGESTION_CONTROL, MOST_DEVICES, Network } from "./network.ts";
import { missingForNamespaces } from "./probe.ts";
import { type JoinedProcess, Processes } from "./processes.ts";
import { relative, sharesOf } from "./shares.ts";
import { readValue, setValue, writeValue } from "./system.ts";
import type { BedDevice, BedSpec, BedUsage, Testbed } from "./testbed.ts";
import { kernelThread, pin } from "./threads.ts";

const TROUPE = new URL("../../cli/main.ts", import.meta.url).pathname;
const REAPER = new URL("./reaper.ts", import.meta.url).pathname;
const PORT = 4000;
/** Of a device's process without a model: Bun, ONNX Runtime, buffers of connections. */
const PROCESS_BYTES = 192 * 2 ** 20;
/** A hundred times that of other work. */
const WEIGHT = 102_400;

/** @throws TestbedError when something is missing, or another testbed is open on this machine. */
export async function openNamespaces(
  specs: readonly BedSpec[],
  tolerance: number,
  note: (line: string) => void,
): Promise<Testbed> {
  const missing = missingForNamespaces();
  if (missing !== null) throw new TestbedError(`a testbed of namespaces cannot be had: ${missing}`);
  if (specs.length === 0 || specs.length > MOST_DEVICES) {
    throw new TestbedError(`a testbed has 1 to ${MOST_DEVICES} devices, ${specs.length} were asked for`);
  }
  sharesOf(specs.map(({ speed }) => speed)); // Refused before anything is there to be taken down.
  const release = await takeMachine(note);
  const bed = new Namespaces(specs, release);
  try {
    await bed.open(tolerance, note);
    return bed;
  } catch (error) {
    await bed.close();
    throw error;
  }
}

interface Emulated extends JoinedProcess {
  readonly thread: number;
}

class Namespaces implements Testbed {
  readonly kind = "namespaces";
  devices: readonly BedDevice[] = [];
  about: readonly string[] = [];
  private readonly specs: readonly BedSpec[];
  private readonly release: () => Promise<void>;
  private readonly owner = process.pid;
  private readonly cpu = join(ownGroup("cpu"), groupName(process.pid));
  private readonly memory = join(ownGroup("memory"), groupName(process.pid));
  /** Takes everything down when its standard input ends, with this process or before. */
  private readonly reaper = spawn(process.execPath, [REAPER, `${process.pid}`], {
    stdio: ["pipe", "ignore", "inherit"],
    // Ctrl-C is not for it.
    detached: true,
  });
  private readonly network: Network;
  private readonly processes: Processes;
  private readonly delays: DelayLine[] = [];
  private emulated: readonly Emulated[] = [];
  private closing: Promise<void> | undefined;

  constructor(specs: readonly BedSpec[], release: () => Promise<void>) {
    this.specs = specs;
    this.release = release;
    this.network = new Network(
      this.owner,
      specs.map(({ line }) => line),
    );
    this.processes = new Processes((index, how) => this.explain(index, how));
  }

  get node() {
    return this.processes.node;
  }

  async open(tolerance: number, note: (line: string) => void): Promise<void> {
    this.network.openSwitch();
    makeGroup(this.cpu);
    setValue(join(this.cpu, "cpu.shares"), WEIGHT);
    const others = makeGroup(join(this.cpu, "processes"));
    await Promise.all(this.specs.map((_, device) => this.cable(device)));
    note("starting devices");
    const processors = availableParallelism();
    const processor = processors - 1;
    const rest = processors === 1 ? "0" : `0-${processor - 1}`;
    this.emulated = await Promise.all(
      this.specs.map(async (spec, device) => {
        const joined = await this.processes.start(spec.name, this.command(device, others, rest));
        return { ...joined, thread: await kernelThread(joined.pid) };
      }),
    );
    const groups = this.specs.map((_, device) => makeGroup(join(this.cpu, `${device}`)));
    note("calibrating processor shares");
    const speeds = this.specs.map(({ speed }) => speed);
    const calibrated = await this.processes.guard(() => calibrate(groups, speeds, { processor, tolerance }));
    this.emulated.forEach(({ thread }, device) => {
      pin(thread, processor);
      writeValue(join(groups[device]!, "tasks"), thread);
      setQuota(groups[device]!, quotaOf(calibrated.shares[device]!));
    });
    const work = relative(calibrated.speeds);
    const sum = calibrated.shares.reduce((a, b) => a + b, 0);
    this.devices = this.emulated.map(({ ref, pid, address }, device) => {
      return { spec: this.specs[device]!, ref, pid, address, share: work[device]! * sum };
    });
    this.about = this.describe(calibrated);
  }

  async usage(): Promise<readonly BedUsage[]> {
    return this.emulated.map(({ pid, thread }, device) => {
      const { sent, received } = this.network.bytes(device);
      const peak = /^VmHWM:\s+(\d+) kB$/m.exec(readValue(`/proc/${pid}/status`))?.[1];
      const onProcessor = parseSchedstat(readValue(`/proc/${pid}/task/${thread}/schedstat`));
      return {
        ...{ sentBytes: sent, receivedBytes: received, peakBytes: Number(peak) * 1024 },
        busyMs: onProcessor / this.devices[device]!.share,
      };
    });
  }

  guard<T>(work: () => Promise<T>): Promise<T> {
    return this.processes.guard(work);
  }

  async unshaped<T>(work: () => Promise<T>): Promise<T> {
    for (const device of this.specs.keys()) this.network.unshape(device);
    try {
      return await this.guard(work);
    } finally {
      for (const device of this.specs.keys()) this.network.shape(device);
    }
  }

  close(): Promise<void> {
    this.closing ??= this.takeDown();
    return this.closing;
  }

  private async takeDown(): Promise<void> {
    try {
      await this.processes.close();
      for (const delay of this.delays) await delay.close();
      const ended = once(this.reaper, "exit");
      this.reaper.stdin!.end();
      const [code] = await ended;
      if (code !== 0) await cleanUp((pid) => pid === this.owner);
    } finally {
      await this.release();
    }
  }

  private async cable(device: number): Promise<void> {
    const { latencyMs } = this.specs[device]!.line;
    if (latencyMs > 0) {
      this.delays.push(await DelayLine.open(this.owner, device, latencyMs));
      this.network.plugIn(device);
    } else this.network.layCable(device);
  }

  /** A device's process: it joins its groups before it sees no more of them, and then its namespaces. */
  private command(device: number, others: string, processors: string): readonly [string, ...string[]] {
    const { name, memoryBytes } = this.specs[device]!;
    const limited = makeGroup(join(this.memory, `${device}`));
    setMemoryLimit(limited, memoryBytes + PROCESS_BYTES);
    const join_ = `echo $$ > ${limited}/cgroup.procs && echo $$ > ${others}/cgroup.procs && exec "$@"`;
    const named = 'echo "$0" > /proc/sys/kernel/hostname && exec "$@"';
    return [
      "sh",
      ...["-c", join_, "sh", "taskset", "-c", processors],
      ...["nsenter", `--net=/run/netns/${this.network.namespace(device)}`],
      ...["unshare", "--uts", "sh", "-c", named, name.replace(/[^\w-]/g, "-")],
      ...[process.execPath, TROUPE, "node", "--name", name, "--listen", `tcp://${addressOf(device)}:${PORT}`],
      ...["--memory", `${Math.max(1, Math.round(memoryBytes / 1e6))}`, "--transport", "tcp"],
      ...["--attached", "--json", "--insecure"],
    ];
  }

  private explain(device: number, how: string): TestbedError {
    const { name, memoryBytes } = this.specs[device]!;
    if (memoryKills(join(this.memory, `${device}`)) === 0) {
      return new TestbedError(`${name} ended: ${how}`);
    }
    const megabytes = `${Math.round(memoryBytes / 1e6)} MB`;
    return new DeviceMemoryError(`${name} was killed at its memory limit of ${megabytes} for training`);
  }

  private describe({ shares, deviation }: Calibrated): readonly string[] {
    const percent = (part: number) => `${(part * 100).toFixed(1)} %`;
    return [
      "network namespaces, lines by tbf in both directions, kernels' threads throttled by quota, memory limited by group",
      `quotas of one processor: ${shares.map(percent).join(", ")}, calibrated on work done within ${percent(deviation)}`,
      `TCP without encryption, ${CONGESTION_CONTROL}, no slow start after idling; coordinator at the switch`,
      ...(this.delays.length > 0 ? ["latency by a delay line of TAP pairs in user space"] : []),
    ];
  }
}
