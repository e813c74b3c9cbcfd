/**
 * The testbed of Linux: every device is a process in its own network namespace, under its own host name and memory
 * limit. Its kernels, and nothing else of it, are slowed down, so it answers heartbeats as fast as ever.
 *
 * They are slowed down in one of two ways. *Paced* kernels run at full speed, and their results are held back (`paced.ts`):
 * exact on a machine whose speed changes. By *quota* every device is a `troupe node` whose kernels' thread is throttled by
 * the system: all these threads are kept on one processor, with all quotas together below the whole of it, so that no
 * device computes the slower because another does; everything else of the devices is kept off that processor where there
 * is another one. That is how Linux would share it, and as even as the machine is. The groups outweigh other work on it.
 */

import { spawn } from "node:child_process";
import { once } from "node:events";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { parseSchedstat } from "../processes.ts";
import { calibrate } from "./calibrate.ts";
import { makeGroup, memoryKills, ownGroup, quotaOf, setMemoryLimit, setQuota } from "./cgroup.ts";
import { cleanUp } from "./cleanup.ts";
import { DelayLine } from "./delay.ts";
import { DeviceMemoryError, TestbedError } from "./error.ts";
import { takeMachine } from "./machine.ts";
import { groupName } from "./names.ts";
import { addressOf, CONGESTION_CONTROL, MOST_DEVICES, Network } from "./network.ts";
import { GAUGE_NAME, type Gauge, type PacedDevice } from "./paced-device.ts";
import { missingForNamespaces } from "./probe.ts";
import { type JoinedProcess, Processes } from "./processes.ts";
import { REFERENCE_GFLOPS } from "./reference-kernel.ts";
import { relative, sharesOf } from "./shares.ts";
import { readValue, setValue, writeValue } from "./system.ts";
import type { BedDevice, BedSpec, BedUsage, Compute, Testbed } from "./testbed.ts";
import { kernelThread, pin } from "./threads.ts";

const TROUPE = new URL("../../cli/main.ts", import.meta.url).pathname;
const PACED = new URL("./paced-device.ts", import.meta.url).pathname;
const REAPER = new URL("./reaper.ts", import.meta.url).pathname;
const PORT = 4000;
/** Of a device's process without a model: Bun, ONNX Runtime, buffers of connections. */
const PROCESS_BYTES = 192 * 2 ** 20;
/** A hundred times that of other work. */
const WEIGHT = 102_400;

/** @throws TestbedError when something is missing, or another testbed is open on this machine. */
export async function openNamespaces(
  specs: readonly BedSpec[],
  { compute, tolerance }: { readonly compute: Compute; readonly tolerance: number },
  note: (line: string) => void,
): Promise<Testbed> {
  const missing = missingForNamespaces();
  if (missing !== null) throw new TestbedError(`a testbed of namespaces cannot be had: ${missing}`);
  if (specs.length === 0 || specs.length > MOST_DEVICES) {
    throw new TestbedError(`a testbed has 1 to ${MOST_DEVICES} devices, ${specs.length} were asked for`);
  }
  sharesOf(specs.map(({ speed }) => speed)); // Refused before anything is there to be taken down.
  const release = await takeMachine(note);
  const bed = new Namespaces(specs, compute, release);
  try {
    await bed.open(tolerance, note);
    return bed;
  } catch (error) {
    await bed.close();
    throw error;
  }
}

/** What a device's kernels have taken so far. */
type ReadCompute = () => Promise<Pick<BedUsage, "busyMs" | "lateMs">>;

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
  private readonly compute: Compute;
  private started: readonly JoinedProcess[] = [];
  private read: readonly ReadCompute[] = [];
  private closing: Promise<void> | undefined;

  constructor(specs: readonly BedSpec[], compute: Compute, release: () => Promise<void>) {
    this.specs = specs;
    this.compute = compute;
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
    const [slowed, shares] =
      this.compute === "paced"
        ? await this.startPaced(others)
        : await this.startThrottled(others, tolerance, note);
    this.devices = this.started.map(({ ref, pid, address }, device) => {
      return { spec: this.specs[device]!, ref, pid, address, share: shares[device]! };
    });
    this.about = [
      `network namespaces, lines by tbf in both directions, memory limited by group, ${slowed}`,
      `TCP without encryption, ${CONGESTION_CONTROL}, no slow start after idling; coordinator at the switch`,
      ...(this.delays.length > 0 ? ["latency by a delay line of TAP pairs in user space"] : []),
    ];
  }

  /** @returns how kernels are slowed down, and each device's share of a processor. */
  private async startPaced(others: string): Promise<[string, readonly number[]]> {
    const shares = sharesOf(this.specs.map(({ speed }) => speed));
    this.started = await this.startAll(others, (device) => {
      const { name, memoryBytes } = this.specs[device]!;
      const listen = this.addressOf(device);
      const paced: PacedDevice = { name, memoryBytes, listen, share: shares[device]!, line: null };
      return [process.execPath, PACED, JSON.stringify(paced)];
    });
    this.read = await Promise.all(
      this.started.map(async ({ ref }): Promise<ReadCompute> => {
        const gauge = await this.node.lookup<Gauge>(ref.address.node, GAUGE_NAME);
        return () => gauge!.ask.read();
      }),
    );
    const percents = shares.map(percent).join(", ");
    return [
      `kernels paced to shares of a processor that does ${REFERENCE_GFLOPS.toFixed(0)} GFLOP/s: ${percents}`,
      shares,
    ];
  }

  private async startThrottled(
    others: string,
    tolerance: number,
    note: (line: string) => void,
  ): Promise<[string, readonly number[]]> {
    const processors = availableParallelism();
    const processor = processors - 1;
    const rest = processors === 1 ? "0" : `0-${processor - 1}`;
    this.started = await this.startAll(others, (device) => {
      const { name, memoryBytes } = this.specs[device]!;
      return [
        ...["taskset", "-c", rest, process.execPath, TROUPE, "node", "--name", name],
        ...["--listen", this.addressOf(device), "--transport", "tcp"],
        ...["--memory", `${Math.max(1, Math.round(memoryBytes / 1e6))}`],
        ...["--attached", "--json", "--insecure"],
      ];
    });
    const threads = await Promise.all(this.started.map(({ pid }) => kernelThread(pid)));
    const groups = this.specs.map((_, device) => makeGroup(join(this.cpu, `${device}`)));
    note("calibrating processor shares");
    const speeds = this.specs.map(({ speed }) => speed);
    const calibrated = await this.processes.guard(() => calibrate(groups, speeds, { processor, tolerance }));
    threads.forEach((thread, device) => {
      pin(thread, processor);
      writeValue(join(groups[device]!, "tasks"), thread);
      setQuota(groups[device]!, quotaOf(calibrated.shares[device]!));
    });
    const sum = calibrated.shares.reduce((a, b) => a + b, 0);
    const shares = relative(calibrated.speeds).map((work) => work * sum);
    this.read = this.started.map(({ pid }, device): ReadCompute => {
      const schedule = `/proc/${pid}/task/${threads[device]!}/schedstat`;
      return async () => ({ busyMs: parseSchedstat(readValue(schedule)) / shares[device]!, lateMs: null });
    });
    const quotas = calibrated.shares.map(percent).join(", ");
    const off = percent(calibrated.deviation);
    return [
      `kernels' threads throttled by quotas of one processor: ${quotas}, calibrated on work done within ${off}`,
      shares,
    ];
  }

  private startAll(
    others: string,
    command: (device: number) => readonly string[],
  ): Promise<readonly JoinedProcess[]> {
    return Promise.all(
      this.specs.map(({ name }, device) =>
        this.processes.start(name, this.enclosed(device, others, command(device))),
      ),
    );
  }

  async usage(): Promise<readonly BedUsage[]> {
    const compute = await Promise.all(this.read.map((read) => read()));
    return this.started.map(({ pid }, device) => {
      const { sent, received } = this.network.bytes(device);
      const peak = /^VmHWM:\s+(\d+) kB$/m.exec(readValue(`/proc/${pid}/status`))?.[1];
      const { busyMs, lateMs } = compute[device]!;
      return { sentBytes: sent, receivedBytes: received, peakBytes: Number(peak) * 1024, busyMs, lateMs };
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

  private addressOf(device: number): string {
    return `tcp://${addressOf(device)}:${PORT}`;
  }

  /** A device's process: it joins its groups before it sees no more of them, and then its namespaces. */
  private enclosed(
    device: number,
    others: string,
    command: readonly string[],
  ): readonly [string, ...string[]] {
    const { name, memoryBytes } = this.specs[device]!;
    const limited = makeGroup(join(this.memory, `${device}`));
    setMemoryLimit(limited, memoryBytes + PROCESS_BYTES);
    const join_ = `echo $$ > ${limited}/cgroup.procs && echo $$ > ${others}/cgroup.procs && exec "$@"`;
    const named = 'echo "$0" > /proc/sys/kernel/hostname && exec "$@"';
    return [
      "sh",
      ...["-c", join_, "sh", "nsenter", `--net=/run/netns/${this.network.namespace(device)}`],
      ...["unshare", "--uts", "sh", "-c", named, name.replace(/[^\w-]/g, "-")],
      ...command,
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
}

function percent(part: number): string {
  return `${(part * 100).toFixed(1)} %`;
}
