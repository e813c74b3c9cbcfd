/**
 * Whether a long-lived process stays as it is: what Linux tells of it every few seconds, and the verdict over the second
 * half of its life, when it is warm.
 *
 * A figure grows when its slope (Theil and Sen) over that half comes to more than what it goes up and down by anyhow, and to
 * more than a floor below which nobody would call it a leak. What it goes up and down by is the range between its 10th and
 * 90th percentile once the slope is taken away.
 */

import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { parseResident } from "../processes.ts";
import { median, quantile, theilSenSlope } from "../statistics.ts";

export const MEASURES = ["resident", "descriptors", "sockets", "threads", "regions"] as const;
export type Measure = (typeof MEASURES)[number];

/** Bytes of memory, and numbers of all else, at a time. */
export type ProcessReading = Readonly<Record<Measure, number>> & { readonly seconds: number };

/** Null where there is no such process, or no /proc. */
export function readProcess(pid: number, seconds: number): ProcessReading | null {
  try {
    const folder = `/proc/${pid}`;
    const descriptors = readdirSync(`${folder}/fd`);
    const sockets = descriptors.filter((fd) => {
      try {
        return readlinkSync(`${folder}/fd/${fd}`).startsWith("socket:");
      } catch {
        return false; // Closed meanwhile.
      }
    });
    const resident = parseResident(readFileSync(`${folder}/status`, "utf8"));
    if (resident === null) return null;
    return {
      ...{ seconds, resident, descriptors: descriptors.length, sockets: sockets.length },
      threads: readdirSync(`${folder}/task`).length,
      regions: readFileSync(`${folder}/maps`, "utf8").split("\n").length - 1,
    };
  } catch {
    return null;
  }
}

/** Fewer readings say nothing. */
const FEWEST = 20;
/** Shares of the median, and numbers: growth below both is none. */
const FLOOR_SHARE = 0.05;
const FLOOR_COUNT = 3;

export interface Growth {
  /** Medians of the first and the last tenth of the second half. */
  readonly first: number;
  readonly last: number;
  /** Over the second half, by the slope. */
  readonly growth: number;
  /** What more than that would be a leak. */
  readonly allowed: number;
  readonly perHour: number;
  readonly flat: boolean;
}

/** @returns null where there are too few readings. */
export function growthOf(readings: readonly ProcessReading[], measure: Measure): Growth | null {
  const half = readings.slice(Math.floor(readings.length / 2));
  if (half.length < FEWEST) return null;
  const points = half.map((reading) => ({ x: reading.seconds, y: reading[measure] }));
  const slope = theilSenSlope(points);
  const values = points.map(({ y }) => y);
  const rest = points.map(({ x, y }) => y - slope * x);
  const noise = quantile(rest, 0.9) - quantile(rest, 0.1);
  const share = FLOOR_SHARE * median(values);
  const allowed = Math.max(noise, measure === "resident" ? share : Math.max(share, FLOOR_COUNT));
  const growth = slope * (points.at(-1)!.x - points[0]!.x);
  const tenth = Math.max(1, Math.floor(values.length / 10));
  return {
    first: median(values.slice(0, tenth)),
    last: median(values.slice(-tenth)),
    ...{ growth, allowed, perHour: slope * 3600, flat: growth <= allowed },
  };
}
