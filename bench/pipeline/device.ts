/**
 * A device process of the pipeline bench: what `troupe node` is, with an engine that sleeps.
 *
 *   bun bench/pipeline/device.ts <name> '{"transport":"auto","kernels":[{"chunks":4,"times":{…}}]}'
 *
 * As many devices as there are kinds of kernels; only one of them works at a time. Writes the address that it listens on;
 * ends with its standard input.
 */

import { Device } from "../../actors/device.ts";
import { Stage } from "../../actors/stage.ts";
import { listenNear } from "../../cli/transports.ts";
import { NodeRuntime } from "../../runtime/index.ts";
import { machineId } from "../../runtime/platform/machine.ts";
import { onInputEnd } from "../../runtime/platform/process.ts";
import { nodeTransports, type PipelineDevice } from "./cluster.ts";
import { createSleepingEngine } from "./sleep.ts";
import { deviceName, runMs } from "./times.ts";

const [name, given] = process.argv.slice(2) as [string, string];
const { kernels, transport } = JSON.parse(given) as PipelineDevice;
onInputEnd(() => process.exit(0));

const transports = nodeTransports(transport);
const node = new NodeRuntime({ name, transports, machine: machineId(), actors: { Device, Stage } });
const address = await node.listen("tcp://127.0.0.1:0");
await listenNear(node, transports);
for (const own of kernels) {
  const engine = async () =>
    createSleepingEngine(({ outputs }) =>
      runMs(
        outputs.map((output) => output.name),
        own.chunks,
        own.times,
      ),
    );
  await node.spawn(Device, [name, engine], { name: deviceName(own) });
}
process.stdout.write(`${address}\n`);
