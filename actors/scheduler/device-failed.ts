import type { Worker } from "./plan.ts";

/** A device that cannot run what a plan gives it; the message names it and says why. */
export class DeviceFailed extends Error {
  readonly code = "DEVICE_FAILED";
  override readonly name = "DeviceFailed";

  constructor({ member, stage }: Pick<Worker, "member" | "stage">, cause: unknown) {
    const why = cause instanceof Error ? cause.message : cause;
    super(`${member.deviceName} cannot run its part of stage ${stage.stage + 1}: ${why}`, { cause });
  }
}
