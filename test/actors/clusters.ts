/** Clusters that a test makes and does not close itself: they end with it, however it ends. */

import { afterEach } from "bun:test";
import type { Cluster } from "./cluster.ts";

/** Whatever is put here is closed behind each test of the file. */
export function closedBehindTests(): Cluster[] {
  const clusters: Cluster[] = [];
  afterEach(async () => {
    for (const cluster of clusters.splice(0)) await cluster.close();
  });
  return clusters;
}
