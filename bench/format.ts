/** Figures for people. */

import type { SpeedRatio } from "./statistics.ts";

export const milliseconds = (ms: number): string => `${ms.toFixed(ms < 10 ? 2 : 1)} ms`;
export const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
export const megabytes = (bytes: number): string => `${(bytes / 1e6).toFixed(0)} MB`;
export const whole = (value: number): string => `${Math.round(value)}`;
export const times = ({ ofMedians, paired }: SpeedRatio): string =>
  `${ofMedians.toFixed(2)} (${paired.toFixed(2)} paired)`;
