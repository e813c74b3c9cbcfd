/**
 * A device as a simulated machine has it: what it would find out of the real one is made up. Sensors say nothing, and a
 * line is tried with one byte, which says whether it is there.
 */

import { Device } from "../../../../actors/device.ts";
import type { LinkProfile } from "../../../../actors/scheduler/cost.ts";
import { Tensor } from "../../../../protocols/tensor.ts";
import type { Ref } from "../../../../runtime/ref.ts";

export class SimulatedDevice extends Device {
  override async openMeter(): Promise<[]> {
    return [];
  }

  override async readMeter(): Promise<null> {
    return null;
  }

  override async measureLink(other: Ref<Device>): Promise<LinkProfile> {
    const { clock } = this.context;
    const began = clock.now();
    await other.ask.take(Tensor.zeros("u8", [1]));
    return { latencyMs: (clock.now() - began) / 2, bytesPerMs: 100_000 };
  }
}
