/** The runs that use a device, for whoever runs it: each is told when it begins, when its coordinator is lost, and when it is over. */

import type { Ref } from "../runtime/index.ts";

/** A run begins to use the device; its coordinator is lost, and what there is of the run is kept for a while; it is over here. */
export type DeviceUse = "used" | "kept" | "released";

export class DeviceUses {
  private readonly hears: (use: DeviceUse) => void;
  /** By owner. */
  private readonly now = new Map<string, DeviceUse>();

  constructor(hears: (use: DeviceUse) => void) {
    this.hears = hears;
  }

  /** Something is done for this owner. */
  begins(owner: Ref<any>): void {
    if (!this.now.has(owner.key)) this.becomes(owner, "used");
  }

  /** It is lost, and its run is not over yet. */
  keeps(owner: Ref<any>): void {
    if (this.now.get(owner.key) === "used") this.becomes(owner, "kept");
  }

  /** What was done for it is over. */
  ends(owner: Ref<any>): void {
    if (this.now.delete(owner.key)) this.hears("released");
  }

  /** Another owner has its run from here on. */
  passes(from: Ref<any>, to: Ref<any>): void {
    if (from.key !== to.key) this.now.delete(from.key);
    this.begins(to);
  }

  private becomes(owner: Ref<any>, use: DeviceUse): void {
    this.now.set(owner.key, use);
    this.hears(use);
  }
}
