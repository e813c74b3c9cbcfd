/**
 * Which drifts of devices are told. On a machine that others use too factors change all the time, and each change is a reason
 * to think about the plan but no news: a device that is slow is told once, and again when it is another matter.
 */

import type { DriftedDevice } from "./scheduler/scheduler-options.ts";

/** A device is told of again when its factor is so many times the one that was told, or its inverse. */
export const TOLD_CHANGE = 2;

export class DriftNews {
  /** The factors that were told, by device. */
  private readonly told = new Map<string, number>();
  private isNew = false;

  /** Devices that have drifted by a step. @returns those that are told. */
  of(drifted: readonly DriftedDevice[]): readonly DriftedDevice[] {
    const news = drifted.filter(({ device, factor }) => {
      const change = factor / (this.told.get(device) ?? factor);
      return !this.told.has(device) || change >= TOLD_CHANGE || change <= 1 / TOLD_CHANGE;
    });
    for (const { device, factor } of news) this.told.set(device, factor);
    this.isNew ||= news.length > 0;
    return news;
  }

  /** The plan was thought about because of drifts. @returns whether one was told since the last time. */
  considered(): boolean {
    const { isNew } = this;
    this.isNew = false;
    return isNew;
  }

  /** The run goes by another plan: from here on devices are compared with what they took before it. */
  clear(): void {
    this.told.clear();
    this.isNew = false;
  }
}
